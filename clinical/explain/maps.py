"""Where in an image the score comes from: integrated gradients, and the coarse view's own shares.

An encoder of images may read them twice. What it makes of the pixels (the backbone and what reads
its maps) is taken apart by integrated gradients (Sundararajan et al., 2017, arXiv:1703.01365), from
an even image of the same brightness to the real one: the gradient of the logit alone says little,
since the norms on the way undo what a single place could change. A coarse view is linear in the
grey level of each patch, so that gradient times level, counted from what the patch usually is in
train (from mid grey where fine-tuning did not begin linearly), is what a patch adds through it,
exactly as far as what follows is linear; while the pixels change it keeps reading the real image,
so that nothing is counted twice.

The norms also see a faint image almost as a clear one, so that the logit may leap within a
hundredth of the way, anywhere on it. Equal steps, or any that are fixed beforehand, miss the leap
or make too much of it. The logit itself says how much lies between two points, and so by how much
the gradients at them are wrong: there the way is halved.

Of a frozen backbone only the means of its last maps are read. By the gradient of each mean every
place of its map has its share, which is Grad-CAM of those maps (Selvaraju et al., 2017,
arXiv:1610.02391), here counted from the mean over the image: norms spread what is seen in one place
over all of it, and what is the same everywhere is in no region. No gradient through the backbone is
needed, but it is to first order only, and adds up to nothing.
"""

from clinical.containers import Images
from clinical.encoders.cnn import CNNEncoder
from clinical.explain.line import gradients, integral, slopes, versions
from clinical.explain.question import Question

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor, nn

PIXELS_AT_ONCE = 2**16
"""In the images of a pass with gradients: what bounds the memory."""


@dataclass(frozen=True)
class Maps:
    """Log odds by patch, of one task and network.

    Attributes:
        backbone: [R, H/p, W/p] float64, what each patch adds to even images; of a frozen backbone
            Grad-CAM of its maps, less the mean of its image.
        coarse: [R, H/p, W/p] float64, by the coarse view; 0 where the encoder has none.
        gap: between even images and the real ones, what the logit changes less all that patches add
            by the backbone, which is the error of the steps; nan of a frozen backbone.
    """

    backbone: Tensor
    coarse: Tensor
    gap: float


@torch.enable_grad()
def maps_of(
    question: Question, images: Images, *, tasks: Sequence[str], steps: int
) -> dict[str, Maps]:
    """Task -> maps of a sample's images.

    Args:
        question: about the sample.
        images: of the sample alone, not encoded yet; all change together.
        tasks: binary ones.
        steps: in which the path is walked, at most: fewer where they soon suffice. A frozen
            backbone needs none.
    """
    encoder, grid = question.model.encoders["images"], images.observed.shape
    frozen = encoder if isinstance(encoder, CNNEncoder) and encoder.is_frozen else None
    real = images
    if frozen is not None:
        real = images.replace(encoded=frozen.encode_rows(images).detach().requires_grad_())
    levels: list[Tensor] = []

    def note(given: Tensor) -> Tensor:
        levels.append(given.detach().requires_grad_())
        return levels[0]

    def hold(given: Tensor) -> Tensor:
        (held,) = levels
        return held.detach().repeat(len(given) // max(len(held), 1), 1)

    with _coarse_view(encoder, note):
        logits = question.logits("images", encoder(real))
    found, gap = {}, nan
    for task in tasks:
        coarse = torch.zeros(grid, dtype=torch.float64)
        for level, slope in zip(levels, gradients(logits[task], levels), strict=True):
            coarse += (slope * level.detach().double()).view(grid)
        if frozen is None:
            with _coarse_view(encoder, hold):
                backbone, gap = _walk(question, images, task, steps=steps)
        else:
            assert real.encoded is not None
            (by_means,) = gradients(logits[task], [real.encoded])
            backbone = _cam(frozen.maps_of_means(images), by_means)
        found[task] = Maps(backbone, coarse, gap)
    return found


def _cam(maps: Tensor, by_means: Tensor) -> Tensor:
    """[R, H/p, W/p] of maps [R, H/p, W/p, F], by gradients [R, F or more] of each map's mean."""
    places = maps.shape[1] * maps.shape[2]
    weight = by_means[:, None, None, : maps.shape[-1]] / places
    cam = (weight * maps.double()).sum(-1)
    return cam - cam.mean((1, 2), keepdim=True)


def _walk(question: Question, images: Images, task: str, *, steps: int) -> tuple[Tensor, float]:
    """What each patch adds [R, H/p, W/p] on the way from even images, and what is missed."""
    real, even = images.pixels, even_pixels(images)
    patch = real.shape[-1] // images.observed.shape[-1]

    def ask(pixels: Tensor) -> Mapping[str, Tensor]:
        repeated = versions(images, len(pixels), pixels=pixels.flatten(0, 1))
        return question.logits("images", question.model.encoders["images"](repeated))

    def look(contrast: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [S], and by how much each patch [S, R, H/p, W/p] makes them rise there."""
        logits, patches = [], []
        for part in contrast.split(max(1, PIXELS_AT_ONCE // max(real.numel(), 1))):
            logit, (slope,) = slopes(ask, [(even, real)], part, tasks=[task])[task]
            effect = (slope * (real - even).double()).sum(2)
            tiles = effect.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))
            logits.append(logit)
            patches.append(tiles.sum((-3, -1)))
        return torch.cat(logits), torch.cat(patches)

    return integral(look, steps=steps)


def even_pixels(images: Images) -> Tensor:
    """[R, C, H, W] each plane as grey everywhere as it is on average, where it may be seen.

    What is black all along an edge stays black: it is what made the image a square, or the
    nothing around a body, and shows nothing that could be evened.
    """
    pixels = images.pixels
    patch = pixels.shape[-1] // images.observed.shape[-1]
    seen = images.observed.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    inside = _between(pixels.any(3))[..., None] & _between(pixels.any(2))[:, :, None]
    counted = inside & seen[:, None]
    level = (pixels * counted).sum((2, 3)) / counted.sum((2, 3)).clamp_min(1)
    return torch.where(inside, level[..., None, None], pixels)


def _between(lit: Tensor) -> Tensor:
    """[..., N] bool: from the first to the last place that is lit."""
    return (lit.cumsum(-1) > 0) & (lit.flip(-1).cumsum(-1).flip(-1) > 0)


@contextmanager
def _coarse_view(encoder: nn.Module, read: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While open, the coarse view, if there is one, reads what `read` makes of its levels
    [R, patches]."""
    linear = getattr(getattr(encoder, "coarse", None), "linear", None)
    if not isinstance(linear, nn.Linear):
        yield
        return
    handle = linear.register_forward_pre_hook(lambda _, given: (read(given[0]),))
    try:
        yield
    finally:
        handle.remove()
