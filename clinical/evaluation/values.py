"""Metrics of predicted values, for many weightings of the rows at once (see `metrics.py`)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Values:
    """Predicted and true values of one task.

    Attributes:
        scores, labels: [N] in the task's unit.
    """

    scores: Array
    labels: Array

    names: ClassVar[tuple[str, ...]] = ("MAE", "RMSE", "R2", "Spearman")
    main: ClassVar[tuple[str, ...]] = names

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`."""
        return {name: METRICS[name](self, weights) for name in self.names if name in metrics}

    def why_undefined(self, metric: str) -> str:
        """Why a metric has no value."""
        if not len(self.labels):
            return "no labelled scores"
        return "all labels are equal" if np.ptp(self.labels) == 0 else "all scores are equal"

    def notes(self, metric: str) -> list[str]:
        """What to beware of."""
        return [f"only {n} rows: wide, rough interval"] if (n := len(self.labels)) < 10 else []


def mean_absolute_error(values: Values, weights: Array) -> Array:
    """Mean absolute difference, in the unit."""
    return np.asarray(weights @ np.abs(values.scores - values.labels) / weights.sum(axis=1))


def root_mean_squared_error(values: Values, weights: Array) -> Array:
    """Root of the mean squared difference, in the unit."""
    squared = weights @ (values.scores - values.labels) ** 2
    return np.asarray(np.sqrt(squared / weights.sum(axis=1)))


def explained_variance(values: Values, weights: Array) -> Array:
    """R², the share of the labels' variance around their mean that the scores explain."""
    centred = values.labels - values.labels.mean()  # far from 0 the difference below would cancel
    total = weights.sum(axis=1)
    spread = weights @ centred**2 - (weights @ centred) ** 2 / total
    left = weights @ (values.scores - values.labels) ** 2
    return 1 - _over(left, spread, total * centred.var() * 1e-12)


def spearman(values: Values, weights: Array) -> Array:
    """Correlation of ranks, equal values in the middle of theirs."""
    a, b = weighted_ranks(values.scores, weights), weighted_ranks(values.labels, weights)
    total = weights.sum(axis=1, keepdims=True)
    a -= (weights * a).sum(axis=1, keepdims=True) / total
    b -= (weights * b).sum(axis=1, keepdims=True) / total
    spread = (weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1)
    return _over((weights * a * b).sum(axis=1), np.sqrt(spread), 1e-9)


def weighted_ranks(values: Array, weights: Array) -> Array:
    """[R, N]: the weight below each of values [N], and half of the weight that is equal."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(place[order]) != 0, True))
    up_to = np.cumsum(weights[:, order], axis=1)[:, ends]
    below = np.concatenate([np.zeros((len(weights), 1)), up_to[:, :-1]], axis=1)
    return np.asarray(((below + up_to) / 2)[:, place])


METRICS: dict[str, Callable[[Values, Array], Array]] = {
    "MAE": mean_absolute_error,
    "RMSE": root_mean_squared_error,
    "R2": explained_variance,
    "Spearman": spearman,
}


def _over(above: Array, below: Array, least: Array | float) -> Array:
    """above / below, NaN where below is nothing but rounding."""
    result = np.full(len(above), np.nan)
    np.divide(above, below, out=result, where=below > least)
    return result
