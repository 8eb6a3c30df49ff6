"""Regression: a value in the task's unit."""

from clinical.answers.answer import Answer, Array, Calibrations, Conformals
from clinical.calibration import Subjects
from clinical.config import TaskConfig
from clinical.conformal import Conformal, fit_conformal
from clinical.errors import SchemaError

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

RESIDUAL = "residual"
"""What an interval is as wide as, on either side: absolute residuals of all samples together."""


@dataclass(frozen=True)
class Regression(Answer):
    """The network answers in standard deviations of train from its mean; a score is in the unit.

    Attributes:
        mean, sd: of the train labels, in the task's unit.
    """

    column: ClassVar[str] = "float_value"

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not (isfinite(self.mean) and isfinite(self.sd) and self.sd > 0):
            raise ValueError("mean and sd are not finite, or the sd is not above 0")

    @classmethod
    def learn(
        cls,
        task: TaskConfig,
        labels: NDArray[Any],
        *,
        subjects: NDArray[np.int64],
        where: str,
    ) -> Self:
        values = labels[~np.isnan(labels)]
        # Not by the deviation, which of equal values may be a rounding error.
        if not len(values) or values.min() == values.max():
            raise SchemaError(
                f"{where}: train has {len(values):,} labels, all alike; a regression task needs "
                "different values in float_value"
            )
        return cls(float(values.mean()), float(values.std()))

    @classmethod
    def read(cls, task: TaskConfig, learned: Mapping[str, Any]) -> Self:
        return cls(float(learned["mean"]), float(learned["sd"]))

    @property
    def learned(self) -> dict[str, Any]:
        return {"mean": self.mean, "sd": self.sd}

    @property
    def laid_bare(self) -> Self:
        return replace(self, mean=0.0, sd=1.0)

    def scores(self, logits: Array, calibrations: Calibrations) -> Array:
        return (self.mean + self.sd * logits)[:, None]

    def conform(self, logits: Array, labels: Array, *, subjects: Subjects) -> dict[str, Conformal]:
        residuals = np.abs(labels[:, 0] - self.scores(logits, {})[:, 0])
        return {RESIDUAL: fit_conformal(residuals, subjects)}

    def sets(self, logits: Array, fitted: Conformals, coverage: float) -> dict[str, Array]:
        if not fitted:
            return {}
        value, half = self.scores(logits, {}), fitted[RESIDUAL].threshold(coverage)
        return {"low": value - half, "high": value + half}
