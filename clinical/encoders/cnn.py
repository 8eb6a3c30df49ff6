"""Encoder of images: a CNN of torchvision, then attention over patches and over images."""

from clinical.config import keywords, pick
from clinical.containers import Images
from clinical.encoders.augment import augmented
from clinical.encoders.backbone import Backbone
from clinical.encoders.encoding import Encoder, Encoding
from clinical.encoders.image_reading import (
    CoarseView,
    ImageContext,
    PatchReading,
    patch_levels,
    resample,
)
from clinical.encoders.networks import RESNETS
from clinical.encoders.norms import FixedBatchNorm
from clinical.encoders.pooling import AttentionPooling, mean_rows, stack_rows
from clinical.encoders.weights import check_is_file
from clinical.errors import ConfigError
from clinical.modalities import MODALITIES

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

_SMALLEST_STANDARD = 48
"""Pixels below which a standard stem would leave nothing to the last stages."""
_SMALLEST_FOUR_STAGES = 128
"""Pixels below which the fourth stage, most of the weights, would see a few pixels."""
_STAGES_READ = 3
"""One stage alone would be coarser than the grid, or know too little."""


class CNNEncoder(Encoder):
    """A CNN whose last stages are read on the patch grid, beside a coarse view.

    The coarse view is added after the last norm, so that what follows can read it linearly. Of
    several images or slices each is a token, which knows its time, its view and its place in the
    stack; attention pools them.

    Frozen, the backbone makes of an image the mean of each of its last maps, once and for all,
    and a linear layer reads these.

    Args:
        sizes: `size` of the square images and `patch`, in pixels; `views`, rows of their
            vocabulary; `channels`, 1, or 3 for slices between their neighbours.
        width: D.
        backbone: a ResNet, ResNeXt, DenseNet, EfficientNet, ConvNeXt, MobileNet or RegNet of
            torchvision by name.
        stem: `standard`, or for ResNets `small` (3 x 3: half the size instead of a quarter, four
            times the work); null takes small for ResNets below 48 pixels.
        norm: `group`, for training from random weights; `batch` for published weights, whose
            statistics are kept fixed. Networks with layer norm keep it.
        stages: how many of the four stages; null takes 3 below 128 pixels: there the fourth has
            most of the weights and next to nothing to see.
        heads: of the attention over patches and over images.
        dropout: of the patches' states; 0 keeps every block of the backbone, too.
        coarse: whether to add the coarse view.
        train: `full`, or `frozen`: the backbone stays as its weights are.
        augment: how far training varies position, exposure and noise of the images: 1 as much
            as careful departments do, 0 not at all.
        flip: mirror half of the images in training; it moves the heart to the other side.
    """

    beside_frozen: ClassVar[frozenset[str]] = frozenset({"views"})
    only_in_training: ClassVar[frozenset[str]] = frozenset({"dropout", "train", "augment", "flip"})

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
        train: Literal["full", "frozen"] = "full",
        augment: float = 0.0,
        flip: bool = False,
    ) -> None:
        super().__init__()
        size = sizes["size"]
        if stem is None:
            is_small = size < _SMALLEST_STANDARD and backbone.startswith(RESNETS)
            stem = "small" if is_small else "standard"
        if stages is None:
            stages = 4 if size >= _SMALLEST_FOUR_STAGES else 3
        self.is_frozen = train == "frozen"
        _check_augment(augment, flip=flip, is_frozen=self.is_frozen)
        self.augment, self.flip = augment, flip
        self.width = width
        self.backbone = Backbone(
            backbone,
            size=size,
            channels=sizes.get("channels", 1),
            norm=norm,
            stem=stem,
            stages=stages,
            drop_blocks=dropout > 0,
        )
        patches = (size // sizes["patch"]) ** 2
        channels = self.backbone.channels[-_STAGES_READ:]
        if self.is_frozen:
            self.freeze(self.backbone)
            self.n_means = means = sum(channels)
            self.encoded_width = means + (patches if coarse else 0)
            self.read_means = nn.Sequential(
                nn.LayerNorm(means), nn.Dropout(dropout), nn.Linear(means, width)
            )
        else:
            self.read_maps = PatchReading(channels, width, heads=heads, dropout=dropout)
            self.hidden = nn.Parameter(torch.zeros(()))
        self.context = ImageContext(sizes.get("views", 1), width, dropout=dropout)
        self.pool_images = AttentionPooling(width, heads=heads)
        self.norm = nn.LayerNorm(width)
        self.coarse = CoarseView(patches, width) if coarse else None

    @classmethod
    def check(cls, where: str, options: Mapping[str, Any], *, weights: Path | None) -> None:
        """Refuse what cannot be built, a path that is no file, and to keep random weights, or
        statistics of nothing, as they are."""
        if weights is not None:
            check_is_file(weights)
        if options.get("train") == "frozen" and weights is None:
            raise ConfigError(
                f"{where}.train: a backbone of random weights would stay as it is; give weights, "
                "or set train: full"
            )
        usual = {k: p.default for k, p in keywords(MODALITIES["images"]).items()}
        with torch.device("meta"):  # of tensors without values, so that it costs little
            made = cls({**usual, **options}, **pick(options, cls))
        is_fixed = any(isinstance(module, FixedBatchNorm) for module in made.modules())
        if weights is None and is_fixed:
            raise ConfigError(
                f"{where}.norm: batch keeps the statistics of weights, and none are given; give "
                "weights, or set norm: group"
            )

    def forward(self, container: Images) -> Encoding:
        """Encode images; `tokens` are the images, `states` their patches.

        Of a frozen backbone nothing is left of patches: an image is one of them.
        """
        if self.is_frozen:
            states, images, levels = self._read_frozen(container)
        else:
            states, images, levels = self._read(container)
        images = images + self.context(container)
        tokens, token_mask = stack_rows(images, container.sample, container.size)
        summary = self.norm(self.pool_images(tokens, token_mask))
        read = {}
        if self.coarse is not None:
            summary = summary + mean_rows(self.coarse(levels), container.sample, container.size)
            read["coarse"] = mean_rows(levels, container.sample, container.size)
        return Encoding(summary, tokens, token_mask, states, read_linearly=read)

    def linear_layers(self) -> Mapping[str, nn.Linear]:
        """The coarse view."""
        return {} if self.coarse is None else {"coarse": self.coarse.linear}

    def count_from(self, layer: str, usual: Tensor) -> None:
        """Count the levels of patches from usual ones."""
        if layer == "coarse" and self.coarse is not None:
            self.coarse.count_from(usual)

    def _read(self, container: Images) -> tuple[Tensor, Tensor, Tensor]:
        """States [R, H/p, W/p, D], images [R, D], levels [R, P]."""
        if self.training and self.augment:
            container = augmented(container, strength=self.augment, flip=self.flip)
        rows, height, width = container.observed.shape
        if not rows:  # convolutions are not defined over no image
            empty = container.pixels.new_zeros(0, height, width, self.width)
            return empty, empty.sum((1, 2)), empty[..., 0].flatten(1)
        states, images = self.read_maps(self._maps(container), (height, width))
        return states, images, patch_levels(container)

    def _visible(self, container: Images) -> Tensor:
        """Normalised pixels, those of hidden patches replaced by one value, learned or average."""
        pixels = self.backbone.normalise(container.pixels)
        patch = pixels.shape[-1] // container.observed.shape[-1]
        seen = container.observed.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
        return torch.where(seen[:, None], pixels, 0.0 if self.is_frozen else self.hidden)

    def _read_frozen(self, container: Images) -> tuple[Tensor, Tensor, Tensor]:
        """States [R, 1, 1, D], images [R, D], levels [R, P]."""
        encoded = container.encoded
        if encoded is None:
            encoded = self.encode_rows(container)
        means, levels = encoded.split((self.n_means, encoded.shape[1] - self.n_means), 1)
        images = self.read_means(means)
        return images[:, None, None], images, levels

    def encode_rows(self, container: Images) -> Tensor:
        """[R, F] means of the frozen backbone's last maps, then the patches' grey levels."""
        if self.encoded_width is None:
            return super().encode_rows(container)
        if not len(container.pixels):
            return container.pixels.new_zeros(0, self.encoded_width)
        # In full precision, so that what is kept for later is what is made on the way.
        with torch.no_grad(), torch.autocast(container.pixels.device.type, enabled=False):
            parts = [maps.mean((2, 3)) for maps in self._maps(container)]
            if self.coarse is not None:
                parts.append(patch_levels(container))
            return torch.cat(parts, 1)

    def maps_of_means(self, container: Images) -> Tensor:
        """[R, H/p, W/p, n_means] the frozen backbone's last maps on the patch grid, of which
        `encode_rows` keeps the means."""
        with torch.no_grad():
            grid = container.observed.shape[1], container.observed.shape[2]
            read = [resample(maps, grid) for maps in self._maps(container)]
        return torch.cat(read, 1).permute(0, 2, 3, 1)

    def _maps(self, container: Images) -> list[Tensor]:
        """[R, C', H', W'] of each stage that is read."""
        read: list[Tensor] = self.backbone(self._visible(container))[-_STAGES_READ:]
        return read

    def load_weights(self, path: Path) -> None:
        """Start from a state dict of the same backbone; see `Backbone.load`."""
        self.backbone.load(path)


def _check_augment(augment: float, *, flip: bool, is_frozen: bool) -> None:
    if not 0.0 <= augment <= 2.0:
        raise ConfigError(f"modalities.images.augment: {augment} should be between 0 and 2")
    if is_frozen and (augment or flip):
        raise ConfigError(
            "modalities.images.augment: a frozen backbone sees each image once, as it is; set "
            "augment: 0 and flip: false, or train: full"
        )
    if flip and not augment:
        raise ConfigError("modalities.images.flip: without augment nothing is flipped; set both")
