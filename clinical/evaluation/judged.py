"""What is judged together: the scores and labels of one task, and the metrics of its kind."""

from __future__ import annotations

from clinical.config import TaskKind
from clinical.evaluation.classes import Classes, Exclusive
from clinical.evaluation.horizons import Horizons
from clinical.evaluation.metrics import Scored
from clinical.evaluation.survival import Survival
from clinical.evaluation.values import Values

from collections.abc import Callable, Collection
from dataclasses import dataclass
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

    def marked(self, scores: Array) -> Marked:
        """Scores for these rows, the model's or the baseline's, with the metrics of the kind."""
        return MARKED[self.kind](self, scores)


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
