"""Encoder of images: a torchvision ResNet, then attention over patches and over images."""

from clinical.config_file import likely
from clinical.containers import Images
from clinical.encoders.encoding import Encoder, Encoding
from clinical.encoders.pooling import AttentionPooling, TimeEmbedding, stack_rows
from clinical.encoders.weights import load_fitting, read_tensors
from clinical.errors import ConfigError

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from torchvision.models import ResNet

_SMALLEST_STANDARD = 48
"""Pixels below which a standard stem would leave nothing to the last stages."""
_SMALLEST_FOUR_STAGES = 128
"""Pixels below which the fourth stage, most of the weights, would see a few pixels."""
_MEAN, _SD = 0.449, 0.226
"""Of ImageNet in grey: what published weights expect."""
_LEVEL_SD = 0.1
"""About how far the level of a patch differs between radiographs."""
_FAMILIES = ("resnet", "resnext", "wide_resnet")
_CHANNELS_PER_GROUP = 16


class FixedBatchNorm(nn.BatchNorm2d):
    """Batch norm that always uses the statistics it was loaded with, and still learns its scale.

    In training, too, an image's encoding then does not depend on the batch it is in.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[R, C, H, W] -> the same shape."""
        return functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def group_norm(channels: int) -> nn.Module:
    """Norm of an image by itself: batches of one, masked images and averaged weights are safe."""
    return nn.GroupNorm(max(channels // _CHANNELS_PER_GROUP, 1), channels)


_NORMS = {"group": group_norm, "batch": FixedBatchNorm}


class CoarseView(nn.Module):
    """One linear layer over the grey level of each patch.

    Where pictures are taken in a standard position, as radiographs are, much of what separates
    them is how bright their parts are. A few hundred labels teach a linear layer this, but not a
    deep network. A hidden patch counts as an average one.
    """

    def __init__(self, patches: int, width: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(patches, width)
        nn.init.normal_(self.linear.weight, std=0.1 / patches**0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, container: Images) -> Tensor:
        """[R, D]."""
        patch = container.pixels.shape[-1] // container.observed.shape[-1]
        level = functional.avg_pool2d(container.pixels, patch)[:, 0]
        level = ((level - _MEAN) / _LEVEL_SD).masked_fill(~container.observed, 0.0)
        coarse: Tensor = self.linear(self.dropout(level.flatten(1)))
        return coarse


class CNNEncoder(Encoder):
    """A one-channel ResNet whose last stages are read on the patch grid, beside a coarse view.

    The coarse view is added after the last norm, so that what follows can read it linearly.

    Args:
        sizes: `size` of the square images and `patch`, in pixels.
        width: D.
        backbone: a ResNet of torchvision by name.
        stem: `standard` (7 x 7, then pooled: a quarter of the size) or `small` (3 x 3: half of
            it, four times the work); null takes standard from 48 pixels on.
        norm: `group`, for training from random weights; `batch` for published weights, whose
            statistics are kept fixed.
        stages: how many of the four stages; null takes 3 below 128 pixels: there the fourth has
            most of the weights and next to nothing to see.
        heads: of the attention over patches and over images.
        dropout: of the patches' states.
        coarse: whether to add the coarse view.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        width: int = 64,
        backbone: str = "resnet18",
        stem: str | None = None,
        norm: str = "group",
        stages: int | None = None,
        heads: int = 4,
        dropout: float = 0.1,
        coarse: bool = True,
    ) -> None:
        super().__init__()
        if stem is None:
            stem = "standard" if sizes["size"] >= _SMALLEST_STANDARD else "small"
        if stages is None:
            stages = 4 if sizes["size"] >= _SMALLEST_FOUR_STAGES else 3
        if stem not in ("standard", "small"):
            raise ConfigError(f"modalities.images.stem: {stem} should be standard or small")
        if norm not in _NORMS:
            raise ConfigError(f"modalities.images.norm: {norm} should be group or batch")
        if stages not in range(1, 5):
            raise ConfigError(f"modalities.images.stages: {stages} should be 1 to 4")
        self.width = width
        self.norm_kind = norm
        self.backbone = build_resnet(backbone, norm=norm, stages=stages, stem=stem)
        self.stages = stages
        channels = [_channels(getattr(self.backbone, f"layer{i + 1}")) for i in range(stages)]
        # The last three: one stage alone would be coarser than the grid, or know too little.
        self.lateral = nn.ModuleList(nn.Conv2d(n, width, 1) for n in channels[-3:])
        self.hidden = nn.Parameter(torch.zeros(()))
        self.norm_patches = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.pool_patches = AttentionPooling(width, heads=heads)
        self.time = TimeEmbedding(width, shortest_hours=1.0, longest_hours=20_000.0)
        self.pool_images = AttentionPooling(width, heads=heads)
        self.norm = nn.LayerNorm(width)
        patches = (sizes["size"] // sizes["patch"]) ** 2
        self.coarse = CoarseView(patches, width, dropout=dropout) if coarse else None

    def forward(self, container: Images) -> Encoding:
        """Encode images; `tokens` are the images, `states` their patches."""
        states = self._patches(container)
        patches = states.flatten(1, 2)
        everywhere = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
        images = self.pool_patches(patches, everywhere) + self.time(container.time_hours)
        tokens, token_mask = stack_rows(images, container.sample, container.size)
        summary = self.norm(self.pool_images(tokens, token_mask))
        if self.coarse is not None and token_mask.shape[1]:
            coarse, _ = stack_rows(self.coarse(container), container.sample, container.size)
            count = token_mask.sum(1, keepdim=True).clamp_min(1)
            summary = summary + coarse.sum(1) / count
        return Encoding(summary=summary, tokens=tokens, token_mask=token_mask, states=states)

    def _patches(self, container: Images) -> Tensor:
        """[R, H/p, W/p, D]."""
        rows, height, width = container.observed.shape
        if not rows:  # convolutions are not defined over no image
            return container.pixels.new_zeros(0, height, width, self.width)
        net = self.backbone
        maps = net.maxpool(net.relu(net.bn1(net.conv1(self._visible(container)))))
        read = []
        for stage in range(self.stages):
            maps = getattr(net, f"layer{stage + 1}")(maps)
            read.append(maps)
        read = read[-len(self.lateral) :]
        grid = torch.stack(
            [
                resample(lateral(maps), (height, width))
                for lateral, maps in zip(self.lateral, read, strict=True)
            ]
        ).sum(0)
        states: Tensor = self.dropout(self.norm_patches(grid.permute(0, 2, 3, 1)))
        return states

    def _visible(self, container: Images) -> Tensor:
        """Normalised pixels, those of hidden patches replaced by one learned value."""
        pixels = (container.pixels - _MEAN) / _SD
        patch = pixels.shape[-1] // container.observed.shape[-1]
        seen = container.observed.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
        return torch.where(seen[:, None], pixels, self.hidden)

    def load_weights(self, path: Path) -> None:
        """Start from a state dict of the same torchvision ResNet (safetensors or PyTorch file).

        The first layer's weights are summed over colours: a grey image is the same in all three.

        Raises:
            ConfigError: the file is missing or unsafe, of another architecture, or the encoder
                has another norm or stem.
        """
        tensors = read_tensors(path)
        if self.norm_kind == "group" and "bn1.running_mean" in tensors:
            raise ConfigError(
                f"{path}: trained with batch norm, but the encoder has group norm; set norm: batch"
            )
        first = tensors.get("conv1.weight")
        if first is not None and first.dim() == 4:
            tensors["conv1.weight"] = first.sum(1, keepdim=True)
        load_fitting(self.backbone, tensors, source=path)


def build_resnet(backbone: str, *, norm: str, stages: int, stem: str) -> "ResNet":
    """A ResNet of torchvision with one input channel and without its classifier.

    Raises:
        ConfigError: the name is none of its ResNets.
    """
    # Imported here: this takes seconds, and reading the menu must not.
    from torchvision import models

    known = [name for name in models.list_models(models) if name.startswith(_FAMILIES)]
    if backbone not in known:
        raise ConfigError(
            f"modalities.images.backbone: {backbone} is no ResNet{likely(backbone, known)}"
        )
    net: ResNet = models.get_model(backbone, weights=None, norm_layer=_NORMS[norm])
    filters = net.conv1.out_channels
    if stem == "small":
        net.conv1 = nn.Conv2d(1, filters, 3, stride=2, padding=1, bias=False)
        net.maxpool = nn.Identity()
    else:
        net.conv1 = nn.Conv2d(1, filters, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    for name in ["avgpool", "fc", *(f"layer{i}" for i in range(stages + 1, 5))]:
        delattr(net, name)
    return net


def _channels(stage: nn.Module) -> int:
    """Of the maps that a stage gives."""
    return [m for m in stage.modules() if isinstance(m, nn.Conv2d)][-1].out_channels


def resample(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """[R, D, H, W] on another grid: averaged where finer by a whole factor, else interpolated."""
    height, width = maps.shape[-2:]
    if height % grid[0] == 0 and width % grid[1] == 0:
        return functional.avg_pool2d(maps, (height // grid[0], width // grid[1]))
    return functional.interpolate(maps, grid, mode="bilinear", align_corners=False)
