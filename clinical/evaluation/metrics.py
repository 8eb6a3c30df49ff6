"""Metrics of binary risk scores, exact under ties, for many weightings of the rows at once.

A bootstrap resample is a weighting (how often each row was drawn), so that rows are sorted once
and every metric below is a function of `weights [R, N]` that returns `[R]`. Weights of one give
the metric itself; a weighting under which a metric does not exist gives NaN.
"""

from __future__ import annotations

from clinical.evaluation import risk_groups
from clinical.evaluation.recalibration import Recalibration
from clinical.evaluation.risk_groups import RiskGroups

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEW = 10  # below this many events, or non-events, the table says that intervals are wide
SMALLEST_RISK = 1e-7  # risks are clipped to 1e-7 .. 1 - 1e-7 before a logit is taken


@dataclass(frozen=True)
class Scored:
    """Scores and labels of one task with what the metrics need prepared once.

    Attributes:
        scores: [N] risks in 0..1.
        labels: [N] 0.0 or 1.0.
        order: [N] rows by falling score.
        ends: [G] place in `order` of the last row of each group of equal scores.
        logit: [N] logit of the clipped scores.
    """

    scores: Array
    labels: Array
    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    logit: Array

    @property
    def names(self) -> tuple[str, ...]:
        """Of the metrics."""
        return NAMES

    @property
    def main(self) -> tuple[str, ...]:
        """Those that say what a part of the model is worth."""
        return MAIN

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`."""
        return compute(self, weights, metrics)

    def why_undefined(self, metric: str) -> str:
        """Why a metric has no value for these scores and labels."""
        labels = self.labels
        if not len(labels):
            return "no labelled scores"
        if labels.min() == labels.max():
            return "no negatives" if labels[0] else "no positives"
        if np.ptp(self.logit) == 0:
            return "all scores are equal"
        return "a threshold on the score separates the classes"

    def notes(self, metric: str) -> list[str]:
        """What to beware of."""
        events = int(self.labels.sum())
        others = len(self.labels) - events
        notes = []
        if metric.startswith("AUPRC"):
            notes.append(f"chance: {self.labels.mean():.3f}")
        if metric == risk_groups.ECE:
            if (n_groups := self.groups.n_groups) < risk_groups.MOST_GROUPS:
                notes.append(f"{n_groups} groups: few rows or few distinct scores")
            notes.append(f"true risks would have about {self.groups.expected_by_chance:.3f}")
        if events == 0 or others == 0:
            notes.append("no negatives" if events else "no positives")
        elif events < FEW:
            notes.append(f"only {events} event{'s' * (events > 1)}: wide, rough interval")
        elif others < FEW:
            notes.append(f"only {others} non-event{'s' * (others > 1)}: wide, rough interval")
        return notes

    @classmethod
    def of(cls, scores: Array, labels: Array) -> Scored:
        """Sort the rows; `scores` and `labels` are [N], in 0..1 and in {0, 1}."""
        order = np.argsort(-scores, kind="stable")
        falls = np.diff(scores[order]) != 0
        ends = np.flatnonzero(np.append(falls, True)) if len(scores) else np.zeros(0, np.int64)
        clipped = np.clip(scores, SMALLEST_RISK, 1 - SMALLEST_RISK)
        return cls(scores, labels, order, ends, np.log(clipped) - np.log1p(-clipped))

    @cached_property
    def groups(self) -> RiskGroups:
        """The rows in groups of similar scores."""
        return RiskGroups.of(self.scores, self.labels)

    @cached_property
    def intercept(self) -> Recalibration:
        """The logistic regression behind the calibration intercept."""
        return Recalibration.of_intercept(self.logit, self.labels)

    @cached_property
    def slope(self) -> Recalibration:
        """The logistic regression behind the calibration slope."""
        return Recalibration.of_slope(self.logit, self.labels)


@dataclass(frozen=True)
class Ranking:
    """True and false positives [R, G] when everything down to a group of equal scores is called."""

    true_positives: Array
    false_positives: Array

    @classmethod
    def of(cls, scored: Scored, weights: Array) -> Ranking:
        """Weighted counts, in the order of falling scores."""
        ordered = np.take(weights, scored.order, axis=1)
        called = np.cumsum(ordered, axis=1)
        ordered *= scored.labels[scored.order]
        true = np.cumsum(ordered, axis=1, out=ordered)
        if len(scored.ends) < len(scored.order):
            called, true = called[:, scored.ends], true[:, scored.ends]
        return cls(true, called - true)


def auroc(ranking: Ranking) -> Array:
    """Probability that a positive scores above a negative; equal scores count one half."""
    true, false = ranking.true_positives, ranking.false_positives
    width = np.diff(false, axis=1, prepend=0.0)
    # Trapezoids under the ROC curve; twice the area, so that the sum is one of whole numbers.
    doubled = np.einsum("rg,rg->r", width, true)
    doubled += np.einsum("rg,rg->r", width[:, 1:], true[:, :-1])
    return ratio(doubled, 2 * true[:, -1] * false[:, -1])


def average_precision(ranking: Ranking) -> Array:
    """Precision averaged over the positives: a step-wise area under the precision-recall curve."""
    true, false = ranking.true_positives, ranking.false_positives
    gained = np.diff(true, axis=1, prepend=0.0)
    area = np.einsum("rg,rg->r", gained, _precision(ranking))
    return _both_classes(ratio(area, true[:, -1]), true[:, -1], false[:, -1])


def min_sensitivity_precision(ranking: Ranking) -> Array:
    """Largest min(sensitivity, positive predictive value) over all thresholds."""
    true, false = ranking.true_positives, ranking.false_positives
    sensitivity = ratio(true, true[:, -1:])
    best = np.minimum(sensitivity, _precision(ranking)).max(axis=1)
    return _both_classes(best, true[:, -1], false[:, -1])


def brier(scored: Scored, weights: Array) -> Array:
    """Mean squared difference between risk and label."""
    return ratio(weights @ (scored.scores - scored.labels) ** 2, weights.sum(axis=1))


def scaled_brier(scored: Scored, weights: Array) -> Array:
    """1 - Brier / Brier of the event rate: 1 is perfect, 0 is the event rate, below is worse."""
    events, total = weights @ scored.labels, weights.sum(axis=1)
    return 1 - ratio(
        total * (weights @ (scored.scores - scored.labels) ** 2), events * (total - events)
    )


def log_loss(scored: Scored, weights: Array) -> Array:
    """Mean negative log likelihood in nats; risks of exactly 0 or 1 are clipped by 2.2e-16."""
    edge = np.finfo(np.float64).eps
    risk = np.clip(scored.scores, edge, 1 - edge)
    losses = -np.where(scored.labels == 1, np.log(risk), np.log1p(-risk))
    return ratio(weights @ losses, weights.sum(axis=1))


def observed_expected(scored: Scored, weights: Array) -> Array:
    """Observed events divided by expected ones (the sum of the risks)."""
    return ratio(weights @ scored.labels, weights @ scored.scores)


def calibration_intercept(scored: Scored, weights: Array) -> Array:
    """Calibration in the large: a in logit P(event) = a + logit(score), slope fixed at 1.

    0 is ideal; above 0, risks are too low on average. NaN with one class.
    """
    return scored.intercept.fit(weights)


def calibration_slope(scored: Scored, weights: Array) -> Array:
    """b in logit P(event) = a + b * logit(score), both fitted.

    1 is ideal; below 1, risks are too extreme. NaN with one class, with one value of the score,
    and where a threshold on the score separates the classes.
    """
    return scored.slope.fit(weights)


RANKING_METRICS: dict[str, Callable[[Ranking], Array]] = {
    "AUROC": auroc,
    "AUPRC (average precision)": average_precision,
    "min(Se, +P)": min_sensitivity_precision,
}
RISK_METRICS: dict[str, Callable[[Scored, Array], Array]] = {
    "Brier": brier,
    "scaled Brier": scaled_brier,
    "log loss": log_loss,
    "observed / expected": observed_expected,
    "calibration intercept": calibration_intercept,
    "calibration slope": calibration_slope,
}


NAMES = (*RANKING_METRICS, *RISK_METRICS, *risk_groups.NAMES)
MAIN = ("AUROC", "AUPRC (average precision)", "scaled Brier", "log loss")


def compute(scored: Scored, weights: Array, metrics: Collection[str] = NAMES) -> dict[str, Array]:
    """Some metrics [R] by name, for `weights [R, N]`; needs at least one row."""
    found = {}
    if not RANKING_METRICS.keys().isdisjoint(metrics):
        ranking = Ranking.of(scored, weights)
        found = {name: of(ranking) for name, of in RANKING_METRICS.items() if name in metrics}
    found |= {name: of(scored, weights) for name, of in RISK_METRICS.items() if name in metrics}
    if not set(risk_groups.NAMES).isdisjoint(metrics):
        grouped = scored.groups.compute(weights, brier(scored, weights))
        found |= {name: values for name, values in grouped.items() if name in metrics}
    return found


def ratio(above: Array, below: Array) -> Array:
    """above / below, NaN where below is 0."""
    result: Array = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _precision(ranking: Ranking) -> Array:
    """Positive predictive value, 0 where nothing is called."""
    called = ranking.true_positives + ranking.false_positives
    return np.divide(ranking.true_positives, called, out=np.zeros_like(called), where=called > 0)


def _both_classes(values: Array, positives: Array, negatives: Array) -> Array:
    return np.where((positives > 0) & (negatives > 0), values, np.nan)
