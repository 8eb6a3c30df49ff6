"""Metrics of several classes together, for many weightings of the rows at once."""

from __future__ import annotations

from clinical.evaluation.metrics import Scored, compute
from clinical.evaluation.risk_groups import ECE, TOP_ECE, RiskGroups

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """Risks of several classes.

    Attributes:
        scores: [N, C] risks in 0..1.
        labels: [N, C] 0 or 1 for each class, NaN if unknown.
    """

    scores: Array
    labels: Array

    names: ClassVar[tuple[str, ...]] = (
        "macro AUROC",
        "macro AUPRC",
        "macro Brier",
        "macro log loss",
    )
    main: ClassVar[tuple[str, ...]] = ("macro AUROC", "macro AUPRC")

    @cached_property
    def each(self) -> list[tuple[NDArray[np.bool_], Scored]]:
        """For each class the rows in which it is known, and their scores."""
        known = ~np.isnan(self.labels)
        return [
            (rows, Scored.of(scores[rows], labels[rows]))
            for rows, scores, labels in zip(known.T, self.scores.T, self.labels.T, strict=True)
        ]

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`: means over classes against the rest."""
        wanted = {name: of_class for name, of_class in MACRO.items() if name in metrics}
        nothing = dict.fromkeys(wanted.values(), np.full(len(weights), np.nan))
        each = [
            compute(scored, weights[:, rows], set(wanted.values())) if rows.any() else nothing
            for rows, scored in self.each
        ]
        return {
            name: np.asarray(np.mean([one[of_class] for one in each], axis=0))
            for name, of_class in wanted.items()
        }

    def why_undefined(self, metric: str) -> str:
        """Why a metric has no value."""
        if not len(self.labels):
            return "no labelled scores"
        lacking = sum(len(np.unique(scored.labels)) < 2 for _, scored in self.each)
        return f"{lacking} of {len(self.each)} classes have no positives or no negatives"

    def notes(self, metric: str) -> list[str]:
        """What to beware of."""
        fewest = min(int(min(s.labels.sum(), (1 - s.labels).sum())) for _, s in self.each)
        return [f"a class with only {fewest}: wide, rough interval"] if fewest < 10 else []


@dataclass(frozen=True)
class Exclusive(Classes):
    """Risks of classes of which exactly one is true; the risks of a row add up to 1."""

    names: ClassVar[tuple[str, ...]] = (
        "macro AUROC",
        "macro AUPRC",
        "accuracy",
        "balanced accuracy",
        "Brier (sum over classes)",
        "log loss",
        TOP_ECE,
    )
    main: ClassVar[tuple[str, ...]] = ("macro AUROC", "macro AUPRC", "accuracy", "log loss")

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`."""
        found = super().compute(weights, metrics)
        own = {
            "accuracy": self._is_right,
            "Brier (sum over classes)": self._squared,
            "log loss": self._log_losses,
        }
        found |= {name: _mean(values, weights) for name, values in own.items() if name in metrics}
        if "balanced accuracy" in metrics:
            found["balanced accuracy"] = self._balanced(weights)
        if TOP_ECE in metrics:
            found[TOP_ECE] = self._top.compute(weights, np.zeros(len(weights)))[ECE]
        return found

    @cached_property
    def _truth(self) -> NDArray[np.int64]:
        return np.asarray(self.labels.argmax(axis=1))

    @cached_property
    def _is_right(self) -> Array:
        return np.asarray(self.scores.argmax(axis=1) == self._truth, dtype=np.float64)

    @cached_property
    def _squared(self) -> Array:
        return np.asarray(((self.scores - self.labels) ** 2).sum(axis=1))

    @cached_property
    def _log_losses(self) -> Array:
        risk = self.scores[np.arange(len(self.labels)), self._truth]
        return np.asarray(-np.log(risk.clip(np.finfo(np.float64).eps)))

    @cached_property
    def _top(self) -> RiskGroups:
        """How sure the most likely class is, beside whether it is the true one."""
        return RiskGroups.of(self.scores.max(axis=1), self._is_right)

    def _balanced(self, weights: Array) -> Array:
        """Mean over classes of how many of each are found; NaN if one of them is absent."""
        count, found = weights @ self.labels, weights @ (self.labels * self._is_right[:, None])
        with np.errstate(invalid="ignore"):
            return np.asarray((found / count).mean(axis=1))

    def notes(self, metric: str) -> list[str]:
        """What to beware of."""
        if metric == "accuracy":
            return [f"chance: {self.labels.mean(axis=0).max():.3f} (always the largest class)"]
        if metric == TOP_ECE:
            return [f"true risks would have about {self._top.expected_by_chance:.3f}"]
        return super().notes(metric) if metric in (*MACRO, "balanced accuracy") else []


MACRO = {
    "macro AUROC": "AUROC",
    "macro AUPRC": "AUPRC (average precision)",
    "macro Brier": "Brier",
    "macro log loss": "log loss",
}
"""Mean over classes -> of which metric."""


def _mean(values: Array, weights: Array) -> Array:
    """[R] weighted mean of [N]; NaN of nothing."""
    with np.errstate(invalid="ignore"):
        return np.asarray(weights @ values / weights.sum(axis=1))
