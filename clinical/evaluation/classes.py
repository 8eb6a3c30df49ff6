"""Metrics of several classes together, for many weightings of the rows at once."""

from __future__ import annotations

from clinical.evaluation.metrics import Scored, compute

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

    names: ClassVar[tuple[str, ...]] = ("macro AUROC", "macro AUPRC")
    main: ClassVar[tuple[str, ...]] = names

    @cached_property
    def each(self) -> list[tuple[NDArray[np.bool_], Scored]]:
        """For each class the rows in which it is known, and their scores."""
        known = ~np.isnan(self.labels)
        return [
            (rows, Scored.of(scores[rows], labels[rows]))
            for rows, scores, labels in zip(known.T, self.scores.T, self.labels.T, strict=True)
        ]

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`."""
        found = {}
        for name, of_class in MACRO.items():
            if name in metrics:
                found[name] = self._macro(weights, of_class)
        return found

    def _macro(self, weights: Array, metric: str) -> Array:
        """Mean over classes of a metric of each against the rest."""
        each = [
            compute(scored, weights[:, rows], [metric])[metric]
            if rows.any()
            else np.full(len(weights), np.nan)
            for rows, scored in self.each
        ]
        return np.asarray(np.mean(each, axis=0))

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

    names: ClassVar[tuple[str, ...]] = ("macro AUROC", "macro AUPRC", "accuracy", "log loss")
    main: ClassVar[tuple[str, ...]] = names

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`."""
        found = super().compute(weights, metrics)
        rows, truth = np.arange(len(self.labels)), self.labels.argmax(axis=1)
        if "accuracy" in metrics:
            right = (self.scores.argmax(axis=1) == truth).astype(np.float64)
            found["accuracy"] = np.asarray(weights @ right / weights.sum(axis=1))
        if "log loss" in metrics:
            risk = self.scores[rows, truth].clip(np.finfo(np.float64).eps)
            found["log loss"] = np.asarray(weights @ -np.log(risk) / weights.sum(axis=1))
        return found

    def notes(self, metric: str) -> list[str]:
        """What to beware of."""
        if metric == "accuracy":
            return [f"chance: {self.labels.mean(axis=0).max():.3f} (always the largest class)"]
        return super().notes(metric) if metric in MACRO else []


MACRO = {"macro AUROC": "AUROC", "macro AUPRC": "AUPRC (average precision)"}
"""Mean over classes -> of which metric."""
