"""Multiclass tasks: one of several classes, learned from train in sorted order."""

from clinical.answers.answer import Array, Calibrations, Conformals, OfClasses, known
from clinical.calibration import Calibration, Subjects, fit_temperature
from clinical.config import TaskConfig
from clinical.conformal import Conformal, fit_conformal
from clinical.errors import SchemaError

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

MOST_CLASSES = 1000
"""More are a column of free text or of identifiers, not classes."""


@dataclass(frozen=True)
class Multiclass(OfClasses):
    """One logit and one probability a class; they add up to 1.

    Attributes:
        names: of the classes that train has, sorted; a label is the place in them.
    """

    column: ClassVar[str] = "categorical_value"

    def __post_init__(self) -> None:
        names = self.names
        if not 2 <= len(names) <= MOST_CLASSES or list(names) != sorted(set(names)):
            raise ValueError("classes are not 2 to 1000 different names in sorted order")

    @classmethod
    def learn(
        cls,
        task: TaskConfig,
        labels: NDArray[Any],
        *,
        subjects: NDArray[np.int64],
        where: str,
    ) -> Self:
        pairs = zip(labels[:, 0].tolist(), subjects.tolist(), strict=True)
        names = Counter(name for name, _ in set(pairs) if name is not None)
        if not 2 <= len(names) <= MOST_CLASSES:
            raise SchemaError(
                f"{where}: the train labels have {len(names):,} different classes; a multiclass "
                f"task needs 2 to {MOST_CLASSES:,} in categorical_value"
            )
        least = task.min_subjects or 1
        if rare := sum(n_subjects < least for n_subjects in names.values()):
            raise SchemaError(
                f"{where}: {rare:,} of {len(names):,} classes have fewer than {least} train "
                "subjects, and the names of classes travel with the model; merge them, make their "
                "labels null, or lower min_subjects if the names tell nothing of a patient"
            )
        return cls(tuple(sorted(names)))

    @classmethod
    def read(cls, task: TaskConfig, learned: Mapping[str, Any]) -> Self:
        if not all(isinstance(name, str) and name for name in learned["classes"]):
            raise ValueError("a class is no text")
        return cls(tuple(learned["classes"]))

    @property
    def learned(self) -> dict[str, Any]:
        return {"classes": list(self.names)}

    def scores(self, logits: Array, calibrations: Calibrations) -> Array:
        calibration = calibrations.get(None)
        return softmax(logits * (1.0 if calibration is None else calibration.slope_low))

    def truth(self, labels: Array) -> Array:
        is_class = (labels == np.arange(len(self.names))).astype(np.float64)
        return np.where(np.isnan(labels), np.nan, is_class)

    def calibrate(
        self, logits: Array, labels: Array, *, subjects: Subjects
    ) -> dict[str | None, Calibration]:
        both = known(labels) & known(logits)
        classes = labels[both, 0].astype(np.int64)
        return {None: fit_temperature(logits[both], classes, subjects[both])}

    def conform(self, logits: Array, labels: Array, *, subjects: Subjects) -> dict[str, Conformal]:
        misfit, truth = _misfit(logits), self.truth(labels)
        return {
            name: fit_conformal(np.where(truth[:, place] == 1, misfit[:, place], np.nan), subjects)
            for place, name in enumerate(self.names)
        }

    def sets(self, logits: Array, fitted: Conformals, coverage: float) -> dict[str, Array]:
        if not fitted:
            return {}
        most = np.array([fitted[name].threshold(coverage) for name in self.names])
        return {"in_set": (_misfit(logits) <= most).astype(np.float64)}


def _misfit(logits: Array) -> Array:
    """[N, C] minus the logarithm of each probability, before calibration."""
    highest = logits.max(axis=1, keepdims=True)
    total: Array = np.log(np.exp(logits - highest).sum(axis=1, keepdims=True)) + highest
    return total - logits


def softmax(logits: Array) -> Array:
    """[N, C] -> [N, C] probabilities that add up to 1."""
    risen = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Array = risen / risen.sum(axis=1, keepdims=True)
    return probabilities
