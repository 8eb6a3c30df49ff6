"""The position of a value among the train values of its variable, and back.

A position is the empirical distribution function stretched so that the train values' extreme
quantiles lie at 0 and 1: the same scale for every variable, deaf to units and outliers, and
reversible. Equal values share the middle of their positions; a variable with one value has
position 0.5 and nothing else. Beyond the extreme quantiles it goes on linearly, one unit per
distance between them, and stops at -1 and 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXTREME = 0.005
"""The train values below this quantile, and as many above, lie on the linear tails."""

LOWEST, HIGHEST = -1.0, 2.0

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Quantiles:
    """The knots of many variables, one behind the other.

    Attributes:
        values: [M] float64, ascending within a variable, the ends of its tails included.
        positions: [M] float64, ascending within a variable.
        offsets: [V + 1], the knots of variable v are `offsets[v]:offsets[v + 1]`; a variable
            never seen has none, and all of its positions are 0.5.
    """

    values: Floats
    positions: Floats
    offsets: Whole

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def fit(cls, values: ArrayLike, variable: ArrayLike, n_variables: int, *, knots: int) -> Self:
        """Knots from train values.

        Args:
            values: [N] finite numbers.
            variable: [N] variable of each, in 0 .. n_variables - 1.
            n_variables: V.
            knots: Knots of a variable with more distinct values than this; at least 2.
        """
        rows = np.asarray(variable)
        column = np.asarray(values, dtype=np.float64)
        order = np.lexsort((column, rows))
        column = column[order]
        bounds = np.searchsorted(rows[order], np.arange(n_variables + 1))
        pairs = [_knots(column[start:end], knots) for start, end in pairwise(bounds)]
        return cls._join(pairs)

    @classmethod
    def _join(cls, pairs: list[tuple[Floats, Floats]]) -> Self:
        nothing = np.empty(0)
        return cls(
            np.concatenate([nothing, *(values for values, _ in pairs)]),
            np.concatenate([nothing, *(positions for _, positions in pairs)]),
            np.cumsum([0, *(len(values) for values, _ in pairs)]),
        )

    def apply(self, values: ArrayLike, variable: ArrayLike) -> NDArray[np.float32]:
        """Positions [N] float32 of finite values [N] of the variables [N]."""
        return self._map(values, variable, self.values, self.positions, 0.5).astype(np.float32)

    def invert(self, positions: ArrayLike, variable: ArrayLike) -> Floats:
        """Values [N] at the positions [N] of the variables [N]; NaN for one never seen."""
        return self._map(positions, variable, self.positions, self.values, np.nan)

    def _map(
        self, given: ArrayLike, variable: ArrayLike, x: Floats, y: Floats, unseen: float
    ) -> Floats:
        """Piecewise linear from the knots x to the knots y, each variable by its own."""
        rows, numbers = np.asarray(variable), np.asarray(given, dtype=np.float64)
        narrow = np.uint16 if len(self) <= 1 << 16 else np.int64
        order = np.argsort(rows.astype(narrow), kind="stable")  # radix sort for 16 bits
        bounds = np.searchsorted(rows[order], np.arange(len(self) + 1))
        ordered, mapped = numbers[order], np.full(len(numbers), unseen)
        for v in np.flatnonzero(np.diff(bounds)):
            own = slice(self.offsets[v], self.offsets[v + 1])
            if own.stop > own.start:
                here = slice(bounds[v], bounds[v + 1])
                mapped[here] = np.interp(ordered[here], x[own], y[own])
        result = np.empty_like(mapped)
        result[order] = mapped
        return result

    def to_json(self) -> dict[str, list[list[float]]]:
        """Plain lists; floats survive JSON exactly."""
        own = [slice(start, end) for start, end in pairwise(self.offsets)]
        return {
            "values": [self.values[part].tolist() for part in own],
            "positions": [self.positions[part].tolist() for part in own],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        pairs = zip(raw["values"], raw["positions"], strict=True)
        return cls._join([(np.array(x, dtype=float), np.array(y, dtype=float)) for x, y in pairs])


def _knots(ascending: Floats, knots: int) -> tuple[Floats, Floats]:
    """Knots of one variable: all its distinct values if they are few, else its quantiles."""
    n = len(ascending)
    distinct, first, count = np.unique(ascending, return_index=True, return_counts=True)
    if len(distinct) < 2:
        return distinct, np.full(len(distinct), 0.5)
    middle = (first + (count - 1) / 2) / (n - 1)
    if len(distinct) <= knots:
        return _with_tails(distinct, middle)
    levels = np.linspace(EXTREME, 1 - EXTREME, knots)
    at = np.unique(ascending[np.rint(levels * (n - 1)).astype(np.int64)])
    stretched = (middle[np.searchsorted(distinct, at)] - EXTREME) / (1 - 2 * EXTREME)
    return _with_tails(at, np.clip(stretched, 0.0, 1.0))


def _with_tails(values: Floats, positions: Floats) -> tuple[Floats, Floats]:
    """A knot more on either side, where the tails stop."""
    spread = values[-1] - values[0]
    low = values[0] - (positions[0] - LOWEST) * spread
    high = values[-1] + (HIGHEST - positions[-1]) * spread
    return np.array([low, *values, high]), np.array([LOWEST, *positions, HIGHEST])
