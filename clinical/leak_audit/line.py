"""One line of an audit: what was changed, and whether a score moved with it."""

from clinical.errors import ConfigError

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

TOLERANCE = 1e-5
"""A score that moves by more has moved; matrix products of other shapes leave less than that."""

_SEEING = 0.5
"""Share of the samples that a change of what they see must move, or the audit is blind."""

HOLDS, LEAK, BLIND, NOTHING = "holds", "leak", "blind", "nothing to check"

_SAMPLE = ["subject_id", "prediction_time"]


@dataclass(frozen=True)
class Line:
    """A line of the audit.

    Attributes:
        check: what is checked.
        change: what was changed, or looked at.
        samples: how many samples it concerns.
        moved: how many of them have another score, or an edge that should not be.
        largest: the largest |difference| of a score; None where edges were looked at.
        verdict: HOLDS, LEAK, BLIND (a control that should move scores doesn't) or NOTHING (the
            change concerns no sample).
    """

    check: str
    change: str
    samples: int
    moved: int
    largest: float | None
    verdict: str

    @classmethod
    def found(cls, check: str, change: str, samples: int, wrong: int) -> "Line":
        """Of what was looked at: `wrong` of some samples, or of their edges."""
        verdict = LEAK if wrong else HOLDS if samples else NOTHING
        return cls(check, change, samples, wrong, None, verdict)


@dataclass(frozen=True)
class Moves:
    """How much the scores of some samples differ.

    Attributes:
        difference: [N], the largest of a sample's scores; 1 where one comes or goes.
    """

    difference: np.ndarray

    @classmethod
    def between(
        cls, before: pd.DataFrame, after: pd.DataFrame, among: Collection[int] | None = None
    ) -> "Moves":
        """Compare predictions sample by sample.

        A score beyond 1, which is no probability, is compared in relation to its size.

        Args:
            before: predictions of the samples in question.
            after: predictions of at least the same.
            among: subjects that count; all of them by default.
        """
        old = _scores(before if among is None else before[before["subject_id"].isin(list(among))])
        if old.index.has_duplicates:
            raise ConfigError("audit: the predictions name a sample, task and class twice")
        new = _scores(after).reindex(old.index)
        scored = old.notna() | new.notna()
        difference = (new - old).abs() / old.abs().clip(lower=1.0)
        difference = difference[scored].fillna(1.0)
        return cls(difference.groupby(level=_SAMPLE).max().to_numpy(dtype=np.float64))

    def must_not_move(self, check: str, change: str) -> Line:
        """The line of a change that must not matter."""
        return self._line(check, change, LEAK if self.moved else HOLDS)

    def must_move(self, check: str, change: str) -> Line:
        """The line of a control: a change that the scores must follow."""
        is_seen = self.moved >= _SEEING * len(self.difference)
        return self._line(check, change, HOLDS if is_seen else BLIND)

    def may_move(self, check: str, change: str) -> Line:
        """The line of a control that says nothing where no score follows it."""
        return self._line(check, change, HOLDS if self.moved else NOTHING)

    @property
    def moved(self) -> int:
        """How many samples moved."""
        return int((self.difference > TOLERANCE).sum())

    def _line(self, check: str, change: str, verdict: str) -> Line:
        n = len(self.difference)
        largest = float(self.difference.max(initial=0.0))
        return Line(check, change, n, self.moved, largest, verdict if n else NOTHING)


def _scores(predictions: pd.DataFrame) -> pd.Series:
    """Scores by sample, task, class and horizon."""
    keys = predictions[_SAMPLE].assign(
        task=predictions["task"],
        of=predictions["class"].astype(object).fillna(""),
        hours=predictions["horizon_hours"].astype(np.float64).fillna(-1.0),
    )
    return pd.Series(
        predictions["score"].to_numpy(dtype=np.float64), index=pd.MultiIndex.from_frame(keys)
    )
