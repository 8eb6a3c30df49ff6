"""Time-to-event tasks: the risk of an event by some hours after the prediction time.

Time is cut into intervals, and the network gives for each the hazard: the probability of the event
in it, for whom it has not happened before (Gensheimer & Narasimhan, 2019,
https://doi.org/10.7717/peerj.6257). A censored sample teaches the intervals it came through.
"""

from clinical.answers.answer import Answer, Array, Calibrations
from clinical.calibration import sigmoid
from clinical.censoring import counts_by, status_by
from clinical.config import TaskConfig
from clinical.errors import SchemaError

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

INTERVALS = 10
"""Before those that the horizons cut once more."""
MOST_EDGES = 1000


@dataclass(frozen=True)
class TimeToEvent(Answer):
    """One logit of the hazard an interval, one risk a horizon.

    A label is two numbers: hours to the event or to the end of observation, and 1 or 0 for which.

    Attributes:
        edges: [C] ends of the intervals in hours, rising; the first begins at 0. Each holds about
            as many train events, every horizon is an edge, and the last one is the last edge.
        horizon_hours: [R] of the configuration.
    """

    column: ClassVar[str] = "float_value"

    edges: tuple[float, ...]
    horizon_hours: tuple[float, ...]

    def __post_init__(self) -> None:
        edges = self.edges
        rising = all(a < b for a, b in zip((0.0, *edges), edges, strict=False))
        if not (0 < len(edges) <= MOST_EDGES and all(map(isfinite, edges)) and rising):
            raise ValueError("edges are not finite and rising from above 0")
        if not set(self.horizon_hours) <= set(edges):
            raise ValueError("a horizon is no edge")

    @classmethod
    def learn(
        cls,
        task: TaskConfig,
        labels: NDArray[Any],
        *,
        subjects: NDArray[np.int64],
        where: str,
    ) -> Self:
        last = max(task.horizons)
        status = status_by(last, *labels.T)
        events, others = labels[status == 1, 0], int((status == 0).sum())
        if not len(events) or not others:
            raise SchemaError(
                f"{where}: of the train labels, {len(events)} have the event by {last:g} hours and "
                f"{others} are known to have none; a time-to-event task needs both, so choose "
                "another horizon_hours or label more"
            )
        inner = np.quantile(events, np.arange(1, INTERVALS) / INTERVALS)
        edges = {float(edge) for edge in inner if 0 < edge < last} | set(task.horizons)
        return cls(tuple(sorted(edges)), task.horizons)

    @classmethod
    def read(cls, task: TaskConfig, learned: Mapping[str, Any]) -> Self:
        return cls(tuple(float(edge) for edge in learned["edges"]), task.horizons)

    @property
    def learned(self) -> dict[str, Any]:
        return {"edges": list(self.edges)}

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.edges),)

    @property
    def horizons(self) -> tuple[float | None, ...]:
        return self.horizon_hours

    def scores(self, logits: Array, calibrations: Calibrations) -> Array:
        """Risk by each horizon: 1 less the chance to come through all intervals up to it."""
        survival = np.cumprod(sigmoid(-logits), axis=1, dtype=np.float64)
        return 1 - survival[:, [self.edges.index(horizon) for horizon in self.horizon_hours]]

    def truth(self, labels: Array) -> Array:
        return np.repeat(labels[:, :1], len(self.horizon_hours), axis=1)

    def happened(self, labels: Array) -> Array:
        return labels[:, 1]

    def outcomes(self, labels: Array) -> Array:
        return np.stack([status_by(h, *labels.T) for h in self.horizon_hours], axis=1)

    def counts(self, labels: Array) -> Array:
        return np.stack([counts_by(h, *labels.T) for h in self.horizon_hours], axis=1)
