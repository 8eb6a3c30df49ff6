"""Binary tasks, and multilabel ones: several yes-or-no answers that do not exclude each other."""

from clinical.answers.answer import Answer, Array, Calibrations, OfClasses
from clinical.calibration import Calibration, fit_calibration, sigmoid
from clinical.config import TaskConfig
from clinical.errors import SchemaError

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Binary(Answer):
    """One logit, one probability; train teaches nothing about it."""

    @classmethod
    def learn(
        cls,
        task: TaskConfig,
        labels: NDArray[Any],
        *,
        subjects: NDArray[np.int64],
        where: str,
    ) -> Self:
        _check_both(labels[:, 0], where)
        return cls()

    @classmethod
    def read(cls, task: TaskConfig, learned: Mapping[str, Any]) -> Self:
        return cls()

    def scores(self, logits: Array, calibrations: Calibrations) -> Array:
        return _probability(logits, calibrations.get(None))[:, None]

    def outcomes(self, labels: Array) -> Array:
        return labels

    def calibrate(self, logits: Array, labels: Array) -> dict[str | None, Calibration]:
        return {None: _fit(logits, labels[:, 0])}


@dataclass(frozen=True)
class Multilabel(OfClasses):
    """One logit and one probability a class; a sample may have any number of classes.

    Attributes:
        names: of the classes, those of their label folders.
    """

    @classmethod
    def learn(
        cls,
        task: TaskConfig,
        labels: NDArray[Any],
        *,
        subjects: NDArray[np.int64],
        where: str,
    ) -> Self:
        for name, column in zip(task.class_names, labels.T, strict=True):
            _check_both(column, f"{where} ({name})")
        return cls(task.class_names)

    @classmethod
    def read(cls, task: TaskConfig, learned: Mapping[str, Any]) -> Self:
        return cls(task.class_names)

    def scores(self, logits: Array, calibrations: Calibrations) -> Array:
        each = zip(self.names, logits.T, strict=True)
        return np.stack([_probability(logit, calibrations.get(name)) for name, logit in each], 1)

    def outcomes(self, labels: Array) -> Array:
        return labels

    def calibrate(self, logits: Array, labels: Array) -> dict[str | None, Calibration]:
        each = zip(self.names, logits.T, labels.T, strict=True)
        return {name: _fit(logit, label) for name, logit, label in each}


def _check_both(labels: NDArray[Any], where: str) -> None:
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    if not positives or not negatives:
        raise SchemaError(
            f"{where}: train has {positives} positive and {negatives} negative labels; "
            "a task needs both"
        )


def _probability(logit: Array, calibration: Calibration | None) -> Array:
    return sigmoid(logit) if calibration is None else calibration.apply(logit)


def _fit(logit: Array, label: Array) -> Calibration:
    known = ~np.isnan(label) & ~np.isnan(logit)
    return fit_calibration(logit[known], label[known])
