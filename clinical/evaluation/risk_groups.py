"""Calibration in groups of similar risks: ECE, and what the Brier score is made of.

Groups are of about equal size by score, at most ten, of at least 20 rows where possible; equal
scores stay together. They are cut once, on all rows, for the picture and for every resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROWS_PER_GROUP = 20
MOST_GROUPS = 10

ECE = "ECE (10 equal groups)"
RELIABILITY, RESOLUTION, UNCERTAINTY = (
    f"Brier: {part}" for part in ("reliability", "resolution", "uncertainty")
)
NAMES = (ECE, RELIABILITY, RESOLUTION, UNCERTAINTY)
TOP_ECE = "ECE of the top class (10 equal groups)"
OVERSTATED = frozenset({ECE, TOP_ECE, RELIABILITY, RESOLUTION})
"""What holds the size of chance differences: each resample adds its own to those of the rows."""
NEVER_NEGATIVE = frozenset({ECE, TOP_ECE, RELIABILITY})


@dataclass(frozen=True)
class RiskGroups:
    """Rows by group.

    Attributes:
        scores, labels: [N] risks in 0..1, and 0.0 or 1.0.
        place: [N] the group of each row, 0 to K - 1 by rising score.
    """

    scores: Array
    labels: Array
    place: NDArray[np.int64]

    @classmethod
    def of(cls, scores: Array, labels: Array) -> RiskGroups:
        """Cut the rows into groups."""
        n_groups = int(np.clip(len(scores) // ROWS_PER_GROUP, 1, MOST_GROUPS))
        if not len(scores):
            return cls(scores, labels, np.zeros(0, np.int64))
        inner = np.unique(np.quantile(scores, np.arange(1, n_groups) / n_groups))
        cut = np.searchsorted(inner, scores, side="right")
        _, place = np.unique(cut, return_inverse=True)
        return cls(scores, labels, place)

    @property
    def n_groups(self) -> int:
        """K."""
        return int(self.place.max(initial=-1)) + 1

    @cached_property
    def parts(self) -> list[NDArray[np.int64]]:
        """The rows of each group."""
        return [np.flatnonzero(self.place == group) for group in range(self.n_groups)]

    def merged(
        self, sets: Sequence[NDArray[np.bool_]], subjects: NDArray[np.int64], smallest: int
    ) -> list[NDArray[np.int64]]:
        """The rows of fewer groups, neighbours put together until nobody is alone in one.

        Args:
            sets: [N] each; a group has to have enough people of every one.
            subjects: [N] whose row it is.
            smallest: number of people of each set in each group; of all together there may be less.
        """
        found, waiting = list[NDArray[np.int64]](), np.zeros(0, np.int64)
        for rows in self.parts:
            waiting = np.concatenate([waiting, rows])
            people = [len(np.unique(subjects[waiting[each[waiting]]])) for each in sets]
            if min(people) >= smallest:
                found.append(waiting)
                waiting = np.zeros(0, np.int64)
        if len(waiting):  # the highest risks, too few to stand alone
            last = [found.pop()] if found else []
            found.append(np.concatenate([*last, waiting]))
        return found

    @cached_property
    def _columns(self) -> Array:
        """[N, 3 K]: whether a row is of a group, and its score and its label if it is."""
        member = np.eye(self.n_groups)[self.place]
        scores, labels = member * self.scores[:, None], member * self.labels[:, None]
        return np.concatenate([member, scores, labels], axis=1)

    def compute(self, weights: Array, brier: Array) -> dict[str, Array]:
        """ECE and the components of the Brier score [R] by name.

        Reliability and uncertainty are Murphy's (1973), resolution is the generalised one, which
        holds what varies within groups too (Stephenson, Coelho and Jolliffe, 2008), so that
        Brier = reliability - resolution + uncertainty to the last digit.

        Args:
            weights: [R, N].
            brier: [R] the Brier score under them.
        """
        count, risk, events = np.split(weights @ self._columns, 3, axis=1)
        total = weights.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may be empty
            gap = np.abs(risk - events)
            squared = np.where(count > 0, gap**2 / np.where(count > 0, count, 1), 0.0)
            rate = events.sum(axis=1) / total
            reliability = squared.sum(axis=1) / total
            uncertainty = rate * (1 - rate)
            return {
                ECE: gap.sum(axis=1) / total,
                RELIABILITY: reliability,
                RESOLUTION: reliability + uncertainty - brier,
                UNCERTAINTY: uncertainty,
            }

    @property
    def expected_by_chance(self) -> float:
        """About the ECE that true risks would have in as many rows (normal approximation)."""
        variance = [float((self.scores[p] * (1 - self.scores[p])).sum()) for p in self.parts]
        return float(np.sqrt(np.array(variance) * 2 / np.pi).sum() / max(len(self.scores), 1))
