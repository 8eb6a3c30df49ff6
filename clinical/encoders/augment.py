"""Images as another radiographer might have taken them, for training alone."""

from clinical.containers import Images

import math

import torch
from torch import Tensor
from torch.nn import functional

_DEGREES = 7.0
_SHIFT = 0.06
"""Of half an image's side."""
_SCALE = 0.07
_BRIGHTNESS = 0.06
_CONTRAST = 0.15
_GAMMA = 0.15
_NOISE = 0.02


def augmented(container: Images, *, strength: float, flip: bool = False) -> Images:
    """Other positions, exposures and noise, drawn from torch's global generator.

    Nothing is turned upside down, and left stays left unless `flip`: the side of the heart is a
    finding. Rows of one sample at one time, as the slices of a stack, share a draw. Images in
    which an objective hides something stay as they are: turning them would bring hidden pixels
    into patches that may be seen, and what was hidden is asked for as it was.

    Args:
        container: with pixels of any number of channels.
        strength: 1 is what differs between films of a careful department, 0 is nothing.
        flip: mirror half of the images.
    """
    if not len(container.pixels):
        return container
    # In full precision: half would place pixels of a large image beside where they belong.
    with torch.autocast(container.pixels.device.type, enabled=False):
        stack = _stacks(container)
        draws = torch.randn(len(stack), 7, device=stack.device).clamp(-2, 2) / 2
        draws = strength * draws[stack]
        mirror = torch.ones_like(draws[:, 0])
        if flip:
            is_mirrored = torch.rand(len(stack), device=stack.device)[stack] < 0.5
            mirror = torch.where(is_mirrored, -1.0, 1.0)
        pixels = _exposed(_moved(container.pixels, draws[:, :4], mirror), draws[:, 4:])
        pixels = pixels + strength * _NOISE * torch.randn_like(pixels)
    is_whole = container.observed.flatten(1).all(1)[:, None, None, None]
    return container.replace(pixels=torch.where(is_whole, pixels.clamp(0, 1), container.pixels))


def _stacks(container: Images) -> Tensor:
    """[R] int64, the number of the stack that each row belongs to, from 0."""
    sample, time = container.sample, container.time_hours
    is_first = (sample[1:] != sample[:-1]) | (time[1:] != time[:-1])
    return functional.pad(is_first.long().cumsum(0), (1, 0))


def _moved(pixels: Tensor, draws: Tensor, mirror: Tensor) -> Tensor:
    """Turned, shifted and scaled; what comes in from outside is as the edge is."""
    angle = draws[:, 0] * math.radians(_DEGREES)
    scale = (draws[:, 1] * _SCALE).exp()
    shift = draws[:, 2:4] * _SHIFT
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    across = torch.stack((mirror * cosine, -sine, shift[:, 0]), 1)
    down = torch.stack((mirror * sine, cosine, shift[:, 1]), 1)
    size = list(pixels.shape)
    grid = functional.affine_grid(torch.stack((across, down), 1), size, align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _exposed(pixels: Tensor, draws: Tensor) -> Tensor:
    """Brighter or darker, of other contrast and gamma; around fixed greys, not the image's own."""
    brightness, contrast, gamma = draws[:, :, None, None, None].unbind(1)
    pixels = pixels.clamp_min(1e-4) ** (gamma * _GAMMA).exp()
    return (pixels - 0.5) * (contrast * _CONTRAST).exp() + 0.5 + brightness * _BRIGHTNESS
