"""A network of torchvision read after its stages, for images of one or three channels."""

from clinical.encoders.networks import (
    MOST_STAGES,
    TRIAL_SIZE,
    keep_blocks,
    network,
    prune,
    replace_first,
    stages_of,
)
from clinical.encoders.norms import NORMS, replace_batch_norms
from clinical.encoders.weights import load_fitting, read_tensors
from clinical.errors import ConfigError

import logging
import re
from pathlib import Path

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

_MEAN, _SD = 0.449, 0.226
"""Of ImageNet in grey: what published weights expect."""
_XRAY_MEAN, _XRAY_SD = 0.5, 0.5 / 1024
"""What turns 0 to 1 into the -1024 to 1024 of torchxrayvision."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


class Backbone(nn.Module):
    """A network of torchvision without its classifier, as a list of stages.

    A stage ends where the maps are about to get smaller; of the last four sizes the first
    `stages` are kept, for most networks a 4th, 8th, 16th and 32nd of the image's.

    Args:
        name: as torchvision has it.
        size: of the square images, in pixels.
        channels: of an image, 1 or 3.
        norm: `group` or `batch`; layer norms stay.
        stem: `standard`, or for ResNets `small`: 3 x 3, without pooling.
        stages: how many, 1 to 4.
        drop_blocks: whether training drops whole blocks where the network was made for it.

    Attributes:
        net: the network; its parameters have torchvision's names.
        channels: of the maps that each stage gives.

    Raises:
        ConfigError: an option that does not exist, or images too small for so many stages.
    """

    def __init__(
        self,
        name: str,
        *,
        size: int,
        channels: int,
        norm: str,
        stem: str,
        stages: int,
        drop_blocks: bool,
    ) -> None:
        super().__init__()
        _check(norm=norm, stem=stem, stages=stages)
        net, steps = network(name)
        replace_batch_norms(net, norm)
        self.norm_kind = norm
        self.first = replace_first(net, channels, stem=stem, name=name)
        if not drop_blocks:
            keep_blocks(net)
        self.net = net.eval()
        self.stages = stages_of(net, steps, channels)[:stages]
        prune(net, {step for stage in self.stages for step in stage})
        self.channels = self._try(min(size, TRIAL_SIZE), channels, name)
        self.train()
        self.register_buffer("mean", torch.tensor(_MEAN))
        self.register_buffer("sd", torch.tensor(_SD))
        self.mean: Tensor
        self.sd: Tensor

    def _try(self, size: int, channels: int, name: str) -> list[int]:
        """Channels of the maps of each stage, by running it once."""
        try:
            with torch.no_grad():
                maps = self(torch.zeros(1, channels, size, size))
        except RuntimeError as error:
            raise ConfigError(
                f"modalities.images: {name} has nothing left of {size} pixels after "
                f"{len(self.stages)} stages; take fewer stages or a larger size"
            ) from error
        return [stage.shape[1] for stage in maps]

    def normalise(self, pixels: Tensor) -> Tensor:
        """Grey levels from 0 to 1 as the network expects them."""
        return (pixels - self.mean) / self.sd

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Normalised pixels [R, C, H, W] -> the maps of each stage, [R, C', H', W']."""
        read, maps = [], pixels
        for stage in self.stages:
            for step in stage:
                maps = self.net.get_submodule(step)(maps)
            read.append(maps)
        return read

    def load(self, path: Path) -> None:
        """Start from a state dict of the same network (safetensors or PyTorch file).

        For images of one channel, weights for colour are summed over the colours: a grey image
        is the same in all three. For slices beside their neighbours, red is the slice before
        and blue the one after. Weights of one channel are taken for those of torchxrayvision,
        which expects pixels from -1024 to 1024. Tensors that the network lacks, such as a
        classifier's, are left out.

        Raises:
            ConfigError: the file is missing or unsafe, of another architecture, or the network
                has another norm or stem.
        """
        tensors = {_current(name): tensor for name, tensor in read_tensors(path).items()}
        if self.norm_kind == "group" and any(name.endswith("running_mean") for name in tensors):
            raise ConfigError(
                f"{path}: trained with batch norm, but the encoder has group norm; set norm: batch"
            )
        weight = tensors.get(self.first)
        is_xray = weight is not None and weight.dim() == 4 and weight.shape[1] == 1
        if weight is not None and weight.dim() == 4:
            channels = self.net.get_parameter(self.first).shape[1]
            tensors[self.first] = _for_channels(weight, channels)
        load_fitting(self.net, tensors, source=path)
        if is_xray:
            logger.info("%s: of one channel; pixels are given from -1024 to 1024", path.name)
        self.mean.fill_(_XRAY_MEAN if is_xray else _MEAN)
        self.sd.fill_(_XRAY_SD if is_xray else _SD)


def _check(*, norm: str, stem: str, stages: int) -> None:
    if stem not in ("standard", "small"):
        raise ConfigError(f"modalities.images.stem: {stem} should be standard or small")
    if norm not in NORMS:
        raise ConfigError(f"modalities.images.norm: {norm} should be group or batch")
    if stages not in range(1, MOST_STAGES + 1):
        raise ConfigError(f"modalities.images.stages: {stages} should be 1 to {MOST_STAGES}")


def _current(name: str) -> str:
    """A tensor's name as torchvision has it now: without a wrapper's prefix or old dots."""
    name = name.removeprefix("module.").removeprefix("model.")
    return _OLD_DENSENET.sub(r"\1\2", name)


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution [F, C, h, w] for images of other channels.

    Summed to one, or one spread over several: either way an image that is the same in all of
    them gives what it gave.
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    if weight.shape[1] == 1:
        return weight.expand(-1, channels, -1, -1) / channels
    return weight
