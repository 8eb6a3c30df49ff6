"""What is judged together: the scores and labels of one task, and the metrics of its kind."""

from __future__ import annotations

from clinical.censoring import counts_by, status_by
from clinical.config import TaskKind
from clinical.evaluation.classes import Classes, Exclusive
from clinical.evaluation.horizons import Horizons
from clinical.evaluation.metrics import Scored
from clinical.evaluation.survival import Survival
from clinical.evaluation.values import Values

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Marked(Protocol):
    """Scores beside the truth, ready for the metrics of their kind of task."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the metrics."""

    @property
    def main(self) -> tuple[str, ...]:
        """Those that say what a part of the model is worth."""

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`; NaN where one is not defined."""

    def why_undefined(self, metric: str) -> str:
        """Why a metric has no value for these scores and labels."""

    def notes(self, metric: str) -> list[str]:
        """What to beware of in reading a metric."""


@dataclass(frozen=True)
class YesOrNo:
    """Risks beside a yes or no, which may be known of some rows only.

    Attributes:
        known: [N] bool, the n rows.
        scored: [n] scores and labels.
        counts: [n] for how many rows each one of them stands (see `censoring`).
    """

    known: NDArray[np.bool_]
    scored: Scored
    counts: Array

    @cached_property
    def is_all(self) -> bool:
        """Whether every row is known and stands for itself alone."""
        return bool(self.known.all() and (self.counts == 1).all())

    def alerts(self, thresholds: Array, weights: Array) -> Alerts:
        """What alerting from each of `thresholds [T]` on gives, under weights [R, N] of all rows.

        Rows are sorted once, so that it costs no more memory than the weights.
        """
        counted = weights if self.is_all else weights[:, self.known] * self.counts
        order = self.scored.order
        called = np.searchsorted(-self.scored.scores[order], -thresholds, side="right")
        ends = np.append(called, len(order)) - 1
        ordered = np.take(counted, order, axis=1)
        alerts = _up_to(ordered, ends)
        ordered *= self.scored.labels[order]
        true = _up_to(ordered, ends)
        return Alerts(true[:, :-1], alerts[:, :-1], true[:, -1:], alerts[:, -1:])


@dataclass(frozen=True)
class Alerts:
    """Weighted counts of rows: true alerts and all [R, T], positives and all rows [R, 1]."""

    true: Array
    all: Array
    positives: Array
    total: Array

    @property
    def false(self) -> Array:
        """[R, T] alerts without the event."""
        return self.all - self.true

    @property
    def negatives(self) -> Array:
        """[R, 1]."""
        return self.total - self.positives


def _up_to(ordered: Array, ends: NDArray[np.int64]) -> Array:
    """Sums [R, T] of the first columns of [R, n], up to and with each of `ends`; -1 is none."""
    if not ordered.shape[1]:
        return np.zeros((len(ordered), len(ends)))
    summed = np.cumsum(ordered, axis=1)
    return np.where(ends >= 0, summed[:, ends], 0.0)


@dataclass(frozen=True)
class Judged:
    """The rows of one task (and class) that have a score and a label, and how many have not.

    Attributes:
        task, label_class: what is predicted; `label_class` is None unless it is one class against
            the rest.
        subjects: [N] whose row it is.
        times: [N] the prediction time of each row.
        scores, labels: [N] risks in 0..1, and 0.0 or 1.0; values in a unit; risks and hours. Of
            several classes together [N, C], NaN for a class that is not known. Of several
            horizons together the risks are [N, H].
        baseline: the baseline's scores for the same rows, None without a baseline.
        without_score, without_label, without_baseline: rows left out, each counted once, for the
            first reason in this order.
        kind: of the task; binary for one class against the rest.
        observed: [N] bool, the hours are those of the event; None unless time-to-event.
        horizon_hours: by which the risks are; None unless time-to-event with one horizon.
        horizons: [H] hours, rising, where several are judged together.
    """

    task: str
    label_class: str | None
    subjects: NDArray[np.int64]
    times: NDArray[np.datetime64]
    scores: Array
    labels: Array
    baseline: Array | None
    without_score: int
    without_label: int
    without_baseline: int
    kind: TaskKind = "binary"
    observed: NDArray[np.bool_] | None = None
    horizon_hours: float | None = None
    horizons: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The task, with the class behind a slash, or the horizon, where there is one."""
        name = self.task if self.label_class is None else f"{self.task}/{self.label_class}"
        return name if self.horizon_hours is None else f"{name} by {self.horizon_hours:g} h"

    @property
    def events(self) -> int | None:
        """Rows labelled 1, or with the event at any time; None where there is no such thing."""
        if self.observed is not None:
            return int(self.observed.sum())
        return int(self.labels.sum()) if self.kind == "binary" else None

    def part(self, rows: NDArray[np.bool_]) -> Judged:
        """Some of the rows [N] alone."""
        return replace(
            self,
            subjects=self.subjects[rows],
            times=self.times[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            baseline=None if self.baseline is None else self.baseline[rows],
            observed=None if self.observed is None else self.observed[rows],
        )

    def marked(self, scores: Array) -> Marked:
        """Scores for these rows, the model's or the baseline's, with the metrics of the kind."""
        return MARKED[self.kind](self, scores)

    def yes_or_no(self, scores: Array) -> YesOrNo | None:
        """Scores for these rows as risks of a yes: of one class, or by one horizon.

        None where there is no such thing: values, several classes or horizons together.
        """
        if self.kind == "binary":
            known = np.ones(len(self.labels), dtype=bool)
            return YesOrNo(known, Scored.of(scores, self.labels), known.astype(np.float64))
        if self.horizon_hours is not None and self.observed is not None:
            status = status_by(self.horizon_hours, self.labels, self.observed)
            known = ~np.isnan(status)
            counts = counts_by(self.horizon_hours, self.labels, self.observed)[known]
            return YesOrNo(known, Scored.of(scores[known], status[known]), counts)
        return None


def _survival(judged: Judged, scores: Array) -> Marked:
    assert judged.observed is not None
    if judged.horizons:
        return Horizons(scores, judged.labels, judged.observed, judged.horizons)
    assert judged.horizon_hours is not None
    n_subjects = len(np.unique(judged.subjects))
    return Survival(scores, judged.labels, judged.observed, judged.horizon_hours, n_subjects)


MARKED: dict[TaskKind, Callable[[Judged, Array], Marked]] = {
    "binary": lambda judged, scores: Scored.of(scores, judged.labels),
    "multiclass": lambda judged, scores: Exclusive(scores, judged.labels),
    "multilabel": lambda judged, scores: Classes(scores, judged.labels),
    "regression": lambda judged, scores: Values(scores, judged.labels),
    "time_to_event": _survival,
}
"""Kind of task -> scores beside the truth, with its metrics."""
