"""Where in an image the score comes from: Grad-CAM, and the coarse view's own shares.

An encoder of images may read them twice. What it makes of each patch (`Encoding.states`) is
weighed by the gradient of the logit, averaged over the grid (Grad-CAM: Selvaraju et al., 2017,
arXiv:1610.02391). A coarse view is linear in the grey level of each patch, so that gradient times
level, counted from the level of an average patch, is what a patch adds through it, exactly as far
as what follows is linear.

Of a frozen backbone only the means of its last maps are read. By the gradient of each mean every
place of its map has its share, which is Grad-CAM of those maps; no gradient through the backbone
is needed.

Both are log odds to first order, so they may be added. Grad-CAM is counted from the mean of its
image before: norms spread what is seen in one place over the whole image, and what is the same
everywhere is in no region. The sum is no share of the logit: neither the curvature of what follows
nor the attention over patches is in it, and over all patches it does not come to the Shapley value
of the images.
"""

from clinical.containers import Images
from clinical.encoders.cnn import CNNEncoder
from clinical.explain.question import Question

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Maps:
    """Log odds by patch, of one task and network.

    Attributes:
        states: [R, H/p, W/p] float64, Grad-CAM with its sign, of the patches' states or of a
            frozen backbone's maps; Grad-CAM proper keeps what is above 0 of it.
        coarse: [R, H/p, W/p] float64, by the coarse view; 0 where the encoder has none.
    """

    states: Tensor
    coarse: Tensor


@torch.enable_grad()
def maps_of(question: Question, images: Images, *, tasks: Sequence[str]) -> dict[str, Maps]:
    """Task -> maps of a sample's images, not encoded yet."""
    encoder, grid = question.model.encoders["images"], images.observed.shape
    frozen = encoder if isinstance(encoder, CNNEncoder) and encoder.is_frozen else None
    if frozen is not None:
        images = images.replace(encoded=frozen.encode_rows(images).detach().requires_grad_())
    with _levels(encoder) as levels:
        encoding = encoder(images)
        logits = question.logits("images", encoding)
    read = encoding.states if images.encoded is None else images.encoded
    maps = encoding.states.detach() if frozen is None else frozen.maps_of_means(images)
    assert maps.shape[:3] == grid, "the maps are not on the patch grid"
    found = {}
    for task in tasks:
        by_read, *by_levels = torch.autograd.grad(
            logits[task].sum(), [read, *levels], retain_graph=True, allow_unused=True
        )
        signed = torch.zeros(grid, dtype=torch.float64)
        if by_read is not None and frozen is not None:
            by_means = by_read[:, None, None, : maps.shape[-1]].double()
            signed += (by_means / (grid[1] * grid[2]) * maps.double()).sum(-1)
        elif by_read is not None:
            weight = by_read.double().mean((1, 2), keepdim=True)
            signed += (weight * maps.double()).sum(-1)
        coarse = torch.zeros(grid, dtype=torch.float64)
        for level, slope in zip(levels, by_levels, strict=True):
            if slope is not None:
                coarse += (slope.double() * level.detach().double()).view(grid)
        found[task] = Maps(signed, coarse)
    return found


@contextmanager
def _levels(encoder: nn.Module) -> Iterator[list[Tensor]]:
    """While open, the levels [R, patches] that the coarse view reads are noted, to differentiate
    by; none where there is no such view."""
    noted: list[Tensor] = []
    linear = getattr(getattr(encoder, "coarse", None), "linear", None)
    if not isinstance(linear, nn.Linear):
        yield noted
        return

    def note(module: nn.Module, read: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        noted.append(read[0].detach().requires_grad_())
        return (noted[-1],)

    handle = linear.register_forward_pre_hook(note)
    try:
        yield noted
    finally:
        handle.remove()
