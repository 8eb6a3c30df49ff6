"""Gradients on the way from an empty input to the real one: what integrated gradients are made of
(Sundararajan et al., 2017, arXiv:1703.01365)."""

from clinical.containers import Images, Tokens

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor

FIRST_STEPS = 8
"""Before any of them is halved."""
NEAR, FAINT = 0.01, 1e-3
"""No step is halved once their errors are below a hundredth of the whole change, or below a
thousandth (of log odds)."""
WORST = 0.1
"""Of the largest error of a step: those from there on are halved next."""

Rows = TypeVar("Rows", Tokens, Images)


@torch.enable_grad()
def slopes(
    ask: Callable[..., Mapping[str, Tensor]],
    ends: Sequence[tuple[Tensor, Tensor]],
    at: Tensor,
    *,
    tasks: Sequence[str],
) -> dict[str, tuple[Tensor, list[Tensor]]]:
    """Task -> logits [S], and their gradient [S, ...] by each input, float64.

    Args:
        ask: inputs [S, ...] -> task -> logits [S], each of its own version of all inputs.
        ends: of each input, where the way begins and the real one.
        at: [S] points between them, 0 the beginning and 1 the end; all inputs go along together.
        tasks: to differentiate.
    """
    inputs = [
        torch.lerp(start, end, at.to(end.dtype).view(-1, *[1] * end.dim())).requires_grad_()
        for start, end in ends
    ]
    logits, found = ask(*inputs), {}
    for task in tasks:
        found[task] = logits[task].detach().double(), gradients(logits[task], inputs)
    return found


def gradients(logits: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Of the logits' sum by each input, float64; 0 by one that they don't depend on."""
    if not inputs:
        return []
    found = torch.autograd.grad(logits.sum(), inputs, retain_graph=True, materialize_grads=True)
    return [slope.double() for slope in found]


def versions(rows: Rows, size: int, **varied: Tensor) -> Rows:
    """A sample's rows in several versions, each a sample of one batch.

    Args:
        rows: R of one sample, not encoded.
        size: S.
        varied: fields [S * R, ...] that differ, version by version; all others are repeated.
    """
    same = {
        field.name: value.repeat(size, *[1] * (value.dim() - 1))
        for field in fields(rows)
        if field.name not in varied and isinstance(value := getattr(rows, field.name), Tensor)
    }
    same["sample"] = torch.arange(size).repeat_interleave(len(rows.sample))
    return rows.replace(**same, **varied, size=size)


def integral(
    look: Callable[[Tensor], tuple[Tensor, Tensor]], *, steps: int
) -> tuple[Tensor, float]:
    """Of the slopes that `look` gives, from 0 to 1, and what is missing in their sum.

    A step is halved where the function changes by another amount than the slopes at both its ends
    say (trapezoids), in cube roots: most of what norms let through comes early.

    Args:
        look: points [S] -> a function [S] there, and its slope [S, ...], in shares.
        steps: most of them.
    """
    root = torch.linspace(0, 1, min(steps, FIRST_STEPS) + 1, dtype=torch.float64)
    height, slope = look(root**3)
    while True:
        width = (root**3).diff().view(-1, *[1] * (slope.dim() - 1))
        shares = (slope[1:] + slope[:-1]) / 2 * width
        error = (height.diff() - shares.flatten(1).sum(1)).abs()
        whole = float(height[-1] - height[0])
        left = steps + 1 - len(root)
        if not (left and float(error.sum()) > max(NEAR * abs(whole), FAINT)):
            return shares.sum(0), whole - float(shares.sum())
        worst = error.argsort(descending=True, stable=True)[:left]
        worst = worst[error[worst] >= WORST * error.max()]
        between = (root[worst] + root[worst + 1]) / 2
        its_height, its_slope = look(between**3)
        root, order = torch.cat([root, between]).sort()
        height = torch.cat([height, its_height])[order]
        slope = torch.cat([slope, its_slope])[order]
