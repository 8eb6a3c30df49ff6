"""How surprising numbers are: minus the logarithm of the share of known ones that are as large."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KNOTS = 1000
"""At most, of one tail."""

TOP, FEWEST = 0.05, 10
"""The share of the known numbers that decides how a tail goes on beyond them, and how many."""

STEEPEST = 20.0
"""Surprise per unit at most: rounding in the sixth digit must move no p-value in the fourth."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tails:
    """The upper tails of T empirical distributions.

    The surprise of x is -log((1 + how many of n known numbers are >= x) / (n + 1)) at the knots
    and linear between them, which is never more than it would be exactly. It is continuous, and
    knots that it would rise to too steeply are passed over, so that the rounding of a float moves
    nothing by a rank.

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
    def fit(cls, samples: Sequence[Floats], *, beyond: bool) -> "Tails":
        """From known numbers, NaN left out; where there are none, nothing is surprising.

        Args:
            samples: of each distribution, in any order.
            beyond: go on beyond the largest number as an exponential tail does, by the mean excess
                of the largest; otherwise a surprise ends at log(n + 1), as a valid p-value does.
        """
        fits = [_fit(sample[~np.isnan(sample)], beyond=beyond) for sample in samples]
        width = max((len(x) for x, *_ in fits), default=0) + 1
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


def _fit(sample: Floats, *, beyond: bool) -> tuple[Floats, Floats, float, float]:
    """Knots, their surprise, the slope beyond the last, and the limit, of one distribution."""
    n = len(sample)
    if not n:
        return np.empty(0), np.empty(0), 0.0, 0.0
    ascending = np.sort(sample)
    # Closer together where few numbers are left above.
    above = np.unique(np.geomspace(1, n, KNOTS).round().astype(np.int64))
    x = np.unique(ascending[n - above])
    surprise = -np.log((1 + n - np.searchsorted(ascending, x)) / (n + 1))
    kept = _not_steep(x, surprise)
    x, surprise = x[kept], surprise[kept]
    if not beyond:
        return x, surprise, 1.0, float(np.log(n + 1))
    top = ascending[-min(max(FEWEST, round(TOP * n)), n) :]
    excess = max(float((top - top[0]).mean()), 1 / STEEPEST)
    return x, surprise, 1 / excess, np.inf


def _not_steep(x: Floats, surprise: Floats) -> list[int]:
    """Knots to each of which the last one before it rises no more steeply than allowed.

    A line that passes over steeper ones lies below them: no surprise is larger for it.
    """
    kept = [0]
    for at in range(1, len(x)):
        if surprise[at] - surprise[kept[-1]] <= STEEPEST * (x[at] - x[kept[-1]]):
            kept.append(at)
    return kept
