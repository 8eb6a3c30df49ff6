"""What every kind of task says of itself: how its logits become scores, and labels truths.

Letters beside those of `batch.py`: C logits of a sample, R scores of a sample (a row of the
predictions each).
"""

from clinical.calibration import Calibration, Subjects
from clinical.config import TaskConfig
from clinical.conformal import Conformal

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Calibrations = Mapping[str | None, Calibration]
"""Class (None for the task as a whole) -> its calibration."""
Conformals = Mapping[str, Conformal]
"""What a set may hold -> its thresholds; empty where nothing was fitted."""


class Answer(ABC):
    """The answer to one task, with what train taught about it.

    It holds numbers and names only, so that it travels in the bundle as JSON.
    """

    column: ClassVar[str] = "boolean_value"
    """Of MEDS labels: where the truth is."""

    @classmethod
    @abstractmethod
    def learn(
        cls,
        task: TaskConfig,
        labels: NDArray[Any],
        *,
        subjects: NDArray[np.int64],
        where: str,
    ) -> Self:
        """From train alone.

        Args:
            task: of the configuration.
            labels: [N, n] the label columns of the train samples, NaN (None for texts) if unknown.
            subjects: [N] whose sample it is.
            where: names the task in errors.

        Raises:
            SchemaError: nothing can be learned from these labels.
        """

    @classmethod
    @abstractmethod
    def read(cls, task: TaskConfig, learned: Mapping[str, Any]) -> Self:
        """What `learned` wrote down.

        Raises:
            ValueError, TypeError, KeyError: it does not fit the task, or was put together by hand.
        """

    @property
    def learned(self) -> dict[str, Any]:
        """What train taught, as plain JSON values; nothing if that is nothing."""
        return {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample's logits: (C,), or () where there is one."""
        return ()

    @property
    def classes(self) -> tuple[str | None, ...]:
        """[R] the class that each score is for."""
        return (None,) * len(self.horizons)

    @property
    def horizons(self) -> tuple[float | None, ...]:
        """[R] hours after the prediction time that each score is about."""
        return (None,)

    @property
    def laid_bare(self) -> Self:
        """The same, with scores in the network's own unit instead of the task's."""
        return self

    @abstractmethod
    def scores(self, logits: Array, calibrations: Calibrations) -> Array:
        """[N, *shape] logits, mean over networks -> [N, R]; NaN stays NaN."""

    def truth(self, labels: Array) -> Array:
        """[N, n] labels of the store -> [N, R] what each score is compared with."""
        return labels

    def happened(self, labels: Array) -> Array | None:
        """[N] whether the event was observed (1) or censored (0); None unless time-to-event."""
        return None

    def outcomes(self, labels: Array) -> Array | None:
        """[N, R] yes (1) or no (0) for each score, NaN if unknown; None where that is no answer."""
        return None

    def counts(self, labels: Array) -> Array | None:
        """[N, R] samples that each known outcome stands for; None where each is for itself."""
        return None

    def calibrate(
        self, logits: Array, labels: Array, *, subjects: Subjects
    ) -> dict[str | None, Calibration]:
        """Fit what `scores` takes; {} where nothing is.

        Args:
            logits: [N, *shape].
            labels: [N, n].
            subjects: [N] whose sample it is.
        """
        return {}

    def conform(self, logits: Array, labels: Array, *, subjects: Subjects) -> dict[str, Conformal]:
        """Fit on uncalibrated logits what `sets` takes; arguments are those of `calibrate`."""
        return {}

    def sets(self, logits: Array, fitted: Conformals, coverage: float) -> dict[str, Array]:
        """What holds the truth of each row as often as `coverage`, by column [N, R].

        `in_set` and `other_in_set` (1 or 0) say whether the row's class, and whether its opposite,
        belongs to the set; `low` and `high` are the ends of an interval. Nothing where no set can
        be told.
        """
        return {}


@dataclass(frozen=True)
class OfClasses(Answer):
    """One logit and one score a class.

    Attributes:
        names: of the classes, in the order of the logits.
    """

    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names),)

    @property
    def classes(self) -> tuple[str | None, ...]:
        return self.names

    @property
    def horizons(self) -> tuple[float | None, ...]:
        return (None,) * len(self.names)


def known(values: Array) -> NDArray[np.bool_]:
    """[N] of [N] or [N, n]: something is known of the sample."""
    return np.asarray(~np.isnan(values).reshape(len(values), -1).all(axis=1))
