"""Metrics of predicted values, for many weightings of the rows at once (see `metrics.py`)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """Rows by value, sorted once for all weightings.

    Attributes:
        rows: [N] by rising value.
        ends: [G] place in `rows` of the last row of each group of equal values.
        group: [N] of each row.
    """

    rows: NDArray[np.int64]
    ends: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, values: Array) -> Order:
        """Of values [N]."""
        _, group = np.unique(values, return_inverse=True)
        rows = np.argsort(group, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(group[rows]) != 0, True)[: len(rows)])
        return cls(rows, ends, group)

    def ranks(self, weights: Array) -> Array:
        """[R, N]: the weight below each row's value, and half of the weight that is equal."""
        up_to = np.cumsum(np.take(weights, self.rows, axis=1), axis=1)
        if len(self.ends) < len(self.rows):
            up_to = np.take(up_to, self.ends, axis=1)
        middle = up_to.copy()
        middle[:, 1:] += up_to[:, :-1]
        middle /= 2
        return np.take(middle, self.group, axis=1)


@dataclass(frozen=True)
class Values:
    """Predicted and true values of one task.

    Attributes:
        scores, labels: [N] in the task's unit.
    """

    scores: Array
    labels: Array

    names: ClassVar[tuple[str, ...]] = (
        "MAE",
        "RMSE",
        "R2",
        "Spearman",
        "mean error",
        "calibration slope",
    )
    main: ClassVar[tuple[str, ...]] = ("MAE", "RMSE", "R2", "Spearman")

    @cached_property
    def orders(self) -> tuple[Order, Order]:
        """Of the scores and of the labels."""
        return Order.of(self.scores), Order.of(self.labels)

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`."""
        return {name: METRICS[name](self, weights) for name in self.names if name in metrics}

    def why_undefined(self, metric: str) -> str:
        """Why a metric has no value."""
        if not len(self.labels):
            return "no labelled scores"
        is_slope = metric == "calibration slope"
        if np.ptp(self.labels) == 0 and not is_slope:
            return "all labels are equal"
        return "all scores are equal"

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
    a, b = (order.ranks(weights) for order in values.orders)
    total = weights.sum(axis=1, keepdims=True)
    a -= np.einsum("rn,rn->r", weights, a)[:, None] / total
    b -= np.einsum("rn,rn->r", weights, b)[:, None] / total
    spread = _products(weights, a, a) * _products(weights, b, b)
    return _over(_products(weights, a, b), np.sqrt(spread), 1e-9)


def mean_error(values: Values, weights: Array) -> Array:
    """Mean of score - label, in the unit: calibration in the large, 0 is ideal."""
    return np.asarray(weights @ (values.scores - values.labels) / weights.sum(axis=1))


def calibration_slope(values: Values, weights: Array) -> Array:
    """Of the line that fits the labels to the scores best; below 1, scores are too far apart."""
    x, y = (each - each.mean() for each in (values.scores, values.labels))
    total = weights.sum(axis=1)
    spread = weights @ x**2 - (weights @ x) ** 2 / total
    shared = weights @ (x * y) - (weights @ x) * (weights @ y) / total
    return _over(shared, spread, total * x.var() * 1e-12)


def _products(weights: Array, a: Array, b: Array) -> Array:
    """[R] weighted sums of products of [R, N]."""
    return np.asarray(np.einsum("rn,rn,rn->r", weights, a, b))


METRICS: dict[str, Callable[[Values, Array], Array]] = {
    "MAE": mean_absolute_error,
    "RMSE": root_mean_squared_error,
    "R2": explained_variance,
    "Spearman": spearman,
    "mean error": mean_error,
    "calibration slope": calibration_slope,
}


def _over(above: Array, below: Array, least: Array | float) -> Array:
    """above / below, NaN where below is nothing but rounding."""
    result = np.full(len(above), np.nan)
    np.divide(above, below, out=result, where=below > least)
    return result
