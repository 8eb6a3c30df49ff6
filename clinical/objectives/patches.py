"""Masked patches of images, predicted by one linear layer (Xie et al., 2022, arXiv:2111.09886)."""

from clinical.batch import ClinicalBatch
from clinical.containers import Images
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    Objective,
    SizedModel,
    add_parts,
    check_learns,
    check_share,
    container_of,
    sizes_of,
    uniform,
)

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# Of grey levels from 0 to 1: below this a patch is flat, and its texture is noise.
_FLAT = 0.02
_LEVEL_WEIGHT = 4.0


@dataclass(frozen=True)
class HiddenPatches:
    """What was hidden.

    Attributes:
        patch: [R, H/p, W/p] bool, hidden from the model.
        pixels: [R, H/p, W/p, p*p] grey levels of every patch.
    """

    patch: Tensor
    pixels: Tensor


class MaskedPatches(Objective):
    """Hide patches, draw them.

    Two parts: "texture", the pixels of a patch less its mean and divided by its spread, and
    "level", the mean itself; an opacity is mostly a matter of level, which the texture leaves
    out.

    Args:
        model: of whose sizes the decoder is.
        share: of each image's patches hidden.

    Raises:
        ConfigError: no modality `images`, or a share outside 0 to 1.
    """

    hides: ClassVar[frozenset[str]] = frozenset({"images"})

    def __init__(self, model: SizedModel, *, share: float = 0.5) -> None:
        super().__init__()
        self.patch = sizes_of(model, "images", objective="patches")["patch"]
        self.share = check_share("patches.share", share)
        width = model.encoder_widths["images"]
        self.norm = nn.LayerNorm(width)
        self.decode = nn.Linear(width, self.patch**2 + 1)

    @classmethod
    def check(
        cls, options: Mapping[str, Any], *, modalities: Sequence[str], frozen: Collection[str]
    ) -> None:
        """Refuse images that are not configured, or frozen."""
        check_learns("images", objective="patches", modalities=modalities, frozen=frozen)

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, HiddenPatches]:
        """Hide the same number of patches, at random places, in every image."""
        images: Images = container_of(batch, "images", Images)
        rows, height, width = images.observed.shape
        draws = uniform((rows, height * width), generator, images.pixels)
        rank = draws.argsort(1).argsort(1).view(rows, height, width)
        hidden = images.observed & (rank < round(self.share * height * width))
        masked = images.replace(observed=images.observed & ~hidden)
        return batch.replace(images=masked), HiddenPatches(hidden, cut(images.pixels, self.patch))

    def loss(self, outputs: ModelOutputs, hidden: HiddenPatches) -> Loss:
        """Absolute errors of texture and level over the hidden patches."""
        states = outputs.encodings["images"].states[hidden.patch]
        drawn = self.decode(self.norm(states))
        texture, level = standardise(hidden.pixels[hidden.patch])
        count = max(len(states), 1)
        errors = {
            "patches/texture": (drawn[:, 1:] - texture).abs().sum() / (count * self.patch**2),
            "patches/level": (drawn[:, 0] - level).abs().sum() / count,
        }
        return add_parts(errors, {"patches/level": _LEVEL_WEIGHT})


def cut(pixels: Tensor, patch: int) -> Tensor:
    """[R, C, H, W] -> [R, H/p, W/p, p*p], the pixels of each patch row by row.

    Of a slice between its neighbours it is the slice that is cut.
    """
    rows, channels, height, width = pixels.shape
    grid = pixels[:, channels // 2].reshape(rows, height // patch, patch, width // patch, patch)
    return grid.permute(0, 1, 3, 2, 4).flatten(3)


def standardise(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Patches [n, p*p] as texture [n, p*p] (mean 0, spread 1 unless flat) and level [n]."""
    level = pixels.mean(1)
    around = pixels - level[:, None]
    spread = around.square().mean(1, keepdim=True).sqrt()
    return around / spread.clamp_min(_FLAT), level
