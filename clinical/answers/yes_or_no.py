"""Binary tasks, and multilabel ones: several yes-or-no answers that do not exclude each other."""

from clinical.answers.answer import Answer, Array, Calibrations, Conformals, OfClasses
from clinical.calibration import Calibration, Subjects, fit_calibration, sigmoid
from clinical.config import TaskConfig
from clinical.conformal import Conformal, fit_conformal
from clinical.errors import SchemaError

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

YES, NO = "yes", "no"
"""What a conformal set may hold."""


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

    def calibrate(
        self, logits: Array, labels: Array, *, subjects: Subjects
    ) -> dict[str | None, Calibration]:
        return {None: _fit(logits, labels[:, 0], subjects)}

    def conform(self, logits: Array, labels: Array, *, subjects: Subjects) -> dict[str, Conformal]:
        return _conform(logits, labels[:, 0], subjects)

    def sets(self, logits: Array, fitted: Conformals, coverage: float) -> dict[str, Array]:
        return _sets(logits[:, None], [fitted], coverage) if fitted else {}


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

    def calibrate(
        self, logits: Array, labels: Array, *, subjects: Subjects
    ) -> dict[str | None, Calibration]:
        each = zip(self.names, logits.T, labels.T, strict=True)
        return {name: _fit(logit, label, subjects) for name, logit, label in each}

    def conform(self, logits: Array, labels: Array, *, subjects: Subjects) -> dict[str, Conformal]:
        each = zip(self.names, logits.T, labels.T, strict=True)
        return {
            f"{name}/{answer}": found
            for name, logit, label in each
            for answer, found in _conform(logit, label, subjects).items()
        }

    def sets(self, logits: Array, fitted: Conformals, coverage: float) -> dict[str, Array]:
        each = [{a: fitted[f"{name}/{a}"] for a in (YES, NO)} for name in self.names if fitted]
        return _sets(logits, each, coverage) if fitted else {}


def _check_both(labels: NDArray[Any], where: str) -> None:
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    if not positives or not negatives:
        raise SchemaError(
            f"{where}: train has {positives} positive and {negatives} negative labels; "
            "a task needs both"
        )


def _probability(logit: Array, calibration: Calibration | None) -> Array:
    return sigmoid(logit) if calibration is None else calibration.apply(logit)


def _fit(logit: Array, label: Array, subjects: Subjects) -> Calibration:
    known = ~np.isnan(label) & ~np.isnan(logit)
    return fit_calibration(logit[known], label[known], subjects[known])


def _conform(logit: Array, label: Array, subjects: Subjects) -> dict[str, Conformal]:
    """A yes fits the worse the lower the logit [N], a no the higher: calibrated or not."""
    return {
        YES: fit_conformal(np.where(label == 1, -logit, np.nan), subjects),
        NO: fit_conformal(np.where(label == 0, logit, np.nan), subjects),
    }


def _sets(logits: Array, fitted: Sequence[Conformals], coverage: float) -> dict[str, Array]:
    yes, no = (
        np.array([each[answer].threshold(coverage) for each in fitted]) for answer in (YES, NO)
    )
    return {
        "in_set": (-logits <= yes).astype(np.float64),
        "other_in_set": (logits <= no).astype(np.float64),
    }
