"""What an encoder of images reads: maps on the patch grid, grey levels, and what is known of an
image beside its pixels."""

from clinical.containers import Images
from clinical.encoders.pooling import AttentionPooling, TimeEmbedding, sometimes_unknown

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVEL = 0.449
"""Of an average picture."""
_LEVEL_SD = 0.1
"""About how far the level of a patch differs between radiographs."""
_WAVES = (0.5, 1.0, 2.0, 4.0)
"""From the first slice of a stack to the last."""


def patch_levels(container: Images) -> Tensor:
    """[R, H/p * W/p] the grey level of each patch; a hidden one counts as an average one.

    Of a slice between its neighbours it is the slice that is read.
    """
    patch = container.pixels.shape[-1] // container.observed.shape[-1]
    pixels = container.pixels[:, container.pixels.shape[1] // 2, None]
    level = functional.avg_pool2d(pixels, patch)[:, 0]
    level = ((level - _LEVEL) / _LEVEL_SD).masked_fill(~container.observed, 0.0)
    return level.flatten(1)


class CoarseView(nn.Module):
    """One linear layer over the grey level of each patch.

    Where pictures are taken in a standard position, as radiographs are, much of what separates
    them is how bright their parts are. A few hundred labels teach a linear layer this, but not a
    deep network. No level is dropped in training: most of a level is what all radiographs share,
    and without it the sum would be noise, which teaches the network not to listen.
    """

    usual: Tensor

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros(patches))
        self.linear = nn.Linear(patches, width)
        nn.init.normal_(self.linear.weight, std=0.1 / patches**0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, levels: Tensor) -> Tensor:
        """Of `patch_levels`, [R, P] -> [R, D]."""
        coarse: Tensor = self.linear(levels - self.usual)
        return coarse

    @torch.no_grad()
    def count_from(self, usual: Tensor) -> None:
        """Count each patch [P] from what it usually is, so that its share is what is unusual in it.

        What the view says stays the same.
        """
        self.linear.bias.add_(self.linear.weight @ (usual - self.usual))
        self.usual.copy_(usual)


class PatchReading(nn.Module):
    """Maps of several stages brought together on the patch grid, and pooled by attention.

    Args:
        channels: of the maps.
        width: D.
        heads: of the attention.
        dropout: of the patches' states.
    """

    def __init__(self, channels: Sequence[int], width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(own, width, 1) for own in channels)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.pool = AttentionPooling(width, heads=heads)

    def forward(self, read: Sequence[Tensor], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Of each map [R, C, H', W'], states [R, H/p, W/p, D] and one vector an image [R, D]."""
        maps = torch.stack(
            [
                resample(lateral(maps), grid)
                for lateral, maps in zip(self.lateral, read, strict=True)
            ]
        ).sum(0)
        states: Tensor = self.dropout(self.norm(maps.permute(0, 2, 3, 1)))
        patches = states.flatten(1, 2)
        everywhere = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
        return states, self.pool(patches, everywhere)


class ImageContext(nn.Module):
    """When an image was taken, from which side, and where in its stack it lies.

    View and position start at zero, and a single image has no position. The view is unknown now
    and then in training, so that an unknown one means something.

    Args:
        views: rows of the vocabulary of views, the unknown one included.
        width: D.
        dropout: how often the view is unknown in training.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {"view": ("vocabulary",)}

    def __init__(self, views: int, width: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.time = TimeEmbedding(width, shortest_hours=1.0, longest_hours=20_000.0)
        self.view = nn.Parameter(torch.zeros(views, width))
        self.position = nn.Parameter(torch.zeros(2 * len(_WAVES), width))
        self.register_buffer("rate", 2 * math.pi * torch.tensor(_WAVES), persistent=False)
        self.rate: Tensor

    def forward(self, container: Images) -> Tensor:
        """[R, D]."""
        view = sometimes_unknown(container.view, self.dropout, training=self.training)
        place = self._waves(container.position) - self._waves(torch.full_like(self.rate[:1], 0.5))
        context: Tensor = self.time(container.time_hours) + self.view[view] + place @ self.position
        return context

    def _waves(self, position: Tensor) -> Tensor:
        angle = position[:, None] * self.rate
        return torch.cat((angle.sin(), angle.cos()), -1)


def resample(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """[R, D, H, W] on another grid: averaged where finer by a whole factor, else interpolated."""
    height, width = maps.shape[-2:]
    if height % grid[0] == 0 and width % grid[1] == 0:
        return functional.avg_pool2d(maps, (height // grid[0], width // grid[1]))
    return functional.interpolate(maps, grid, mode="bilinear", align_corners=False)
