"""How surprising numbers are: minus the logarithm of the share of people with ones as large.

Rows of a person share one person's weight, so that a p-value holds for a row drawn at random from
those of a new person (see `conformal.py`). What is kept is nobody's own number: knots are where ten
people, or a multiple of ten, have as much or more, moved outward to a coarse grid. The few beyond
the last knot decide a coarse slope together.
"""

from clinical.conformal import FEWEST, ROUNDING, grid_step, next_above

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KNOTS = 1000
"""At most, of one tail."""

TOP = 0.05
"""The share of people, though `FEWEST` at least, that decides how a tail goes on beyond all."""

STEEPEST = 20.0
"""Surprise per unit at most: rounding in the sixth digit must move no p-value in the fourth."""

FINENESS = 4
"""Of slopes, so many to a doubling: one tells of no number more than its size."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tails:
    """The upper tails of T empirical distributions.

    The surprise of x is never more than -log((1 + how many of n people are >= x) / (n + 1)), where
    a row is one over the number of its person's (where a tail goes on, up to its last knot). It is
    linear between knots, of which each is moved outward until that is so. It is continuous and
    never steep, so that the rounding of a float moves nothing by a rank.

    Attributes:
        x: [T, K] float64, ascending, then infinite; the last knot of each is.
        surprise: [T, K] float64, ascending, in nats.
        slope: [T] float64, surprise per unit beyond the last finite knot.
        limit: [T] float64, what no surprise exceeds; infinite where a tail goes on.
    """

    x: Tensor
    surprise: Tensor
    slope: Tensor
    limit: Tensor

    @classmethod
    def fit(
        cls,
        samples: Sequence[Floats],
        subjects: NDArray[np.int64] | None = None,
        *,
        beyond: bool,
    ) -> "Tails":
        """From known numbers, NaN left out; of fewer than ten people, nothing is surprising.

        Args:
            samples: [N] of each distribution.
            subjects: [N] whose row each is; by default everybody has one.
            beyond: go on beyond the largest number as an exponential tail does, by the mean excess
                of the largest; otherwise a surprise ends at log(n + 1), as a valid p-value does.
        """
        fits = [_fit(*_people(sample, subjects), beyond=beyond) for sample in samples]
        width = 1 + max(1, *(len(x) for x, *_ in fits)) if fits else 2
        x = np.full((len(fits), width), np.inf)
        surprise = np.zeros((len(fits), width))
        for row, (knots, said, _, _) in enumerate(fits):
            x[row, : len(knots)] = knots
            surprise[row] = np.append(
                said, np.full(width - len(said), said[-1] if len(said) else 0)
            )
        slope, limit = (np.array([fit[at] for fit in fits], dtype=np.float64) for at in (2, 3))
        return cls(*(torch.from_numpy(array) for array in (x, surprise, slope, limit)))

    def __len__(self) -> int:
        return len(self.x)

    def __call__(self, values: Tensor) -> Tensor:
        """[B, T] float64, the surprise of finite `values` [B, T]; NaN stays NaN."""
        given = values.double().T.contiguous()
        right = torch.searchsorted(self.x, given, right=True).clamp(1, self.x.shape[1] - 1)
        x0, x1 = self.x.gather(1, right - 1), self.x.gather(1, right)
        y0, y1 = self.surprise.gather(1, right - 1), self.surprise.gather(1, right)
        share = ((given - x0) / (x1 - x0)).clamp(0, 1)
        last = self.x.masked_fill(self.x.isinf(), -torch.inf).amax(1, keepdim=True)
        # An infinite excess is over no knot at all.
        excess = (given - last).clamp(min=0).nan_to_num(posinf=0.0)
        found = y0 + (y1 - y0) * share.nan_to_num() + excess * self.slope[:, None]
        found = found.minimum(self.limit[:, None])
        return found.masked_fill(given.isnan(), torch.nan).T

    def to_tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` reads."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Tails":
        """What `to_tensors` gave.

        Raises:
            ValueError: they are no tails.
        """
        found = cls(**{field.name: tensors[field.name] for field in fields(cls)})
        n, knots = found.x.shape
        shapes = {"x": (n, knots), "surprise": (n, knots), "slope": (n,), "limit": (n,)}
        for name, shape in shapes.items():
            tensor = tensors[name]
            if tensor.dtype != torch.float64 or tuple(tensor.shape) != shape:
                raise ValueError(f"tails: {name} should be float64 of shape {shape}")
        return found


def _people(sample: Floats, subjects: NDArray[np.int64] | None) -> tuple[Floats, Floats, int]:
    """What is known, ascending; how many people have as much or more; how many there are."""
    known = ~np.isnan(sample)
    whose = np.flatnonzero(known) if subjects is None else subjects[known]
    _, place, n_rows = np.unique(whose, return_inverse=True, return_counts=True)
    x, row = np.unique(sample[known], return_inverse=True)
    each = np.bincount(row, 1 / n_rows[place], minlength=len(x))
    people: Floats = np.cumsum(each[::-1])[::-1].astype(np.float64)
    return x, people, len(n_rows)


def _fit(x: Floats, people: Floats, n: int, *, beyond: bool) -> tuple[Floats, Floats, float, float]:
    """Knots, their surprise, the slope beyond the last, and the limit; see `_people`."""
    if n < FEWEST:
        return np.empty(0), np.empty(0), 0.0, 0.0
    # Closer together where few people are left above.
    tens = np.unique(np.geomspace(1, max(n // FEWEST - 1, 1), KNOTS).round())
    at = np.unique(_reached(people, FEWEST * tens))
    step = grid_step(x[at], x[_reached(people, n * np.array([0.75, 0.25]))], n)
    exact = -np.log((1 + people) / (n + 1))
    said = -np.log((1 + np.ceil(people[at] - ROUNDING)) / (n + 1))
    knots, heights = next_above(x[at[:1]], step), np.zeros(1)
    for place, height in zip(at[1:], said[1:], strict=True):
        start = (float(knots[-1]), float(heights[-1]))
        if x[place] > start[0]:
            outward = max(x[place], _meeting(start, float(height), x, exact))
            knots = np.append(knots, next_above(np.array([outward]), step))
            heights = np.append(heights, height)
    above = x > knots[-1]
    if beyond:
        n_top = max(FEWEST, TOP * n)
        (threshold,) = x[_reached(people, np.array([n_top]))]
        each = -np.diff(people, append=0.0)
        slopes = [n_top / max(float(each @ np.maximum(x - threshold, 0)), n_top / STEEPEST)]
    else:
        slopes = ((exact[above] - heights[-1]) / (x[above] - knots[-1])).tolist()
    slope = 2.0 ** (math.floor(FINENESS * math.log2(min([STEEPEST, *slopes]))) / FINENESS)
    return knots, heights, slope, math.inf if beyond else math.log(n + 1)


def _reached(people: Floats, counts: Floats) -> NDArray[np.int64]:
    """Where the largest number is that so many people have or exceed."""
    return np.searchsorted(-people, ROUNDING - counts, side="right") - 1


def _meeting(start: tuple[float, float], height: float, x: Floats, exact: Floats) -> float:
    """How far out a line from `start` gets to a height that exceeds no exact surprise before."""
    low, base = start
    lower = slice(np.searchsorted(x, low, side="right"), np.searchsorted(exact, height))
    reach = (x[lower] - low) / (exact[lower] - base)
    return low + (height - base) * float(reach.max(initial=1 / STEEPEST))
