"""Tasks about a stay that still lasts at the prediction time."""

from clinical.cohort.tasks.builder import DIED, Builder, Horizon
from clinical.cohort.tasks.flow import Sift
from clinical.cohort.tasks.outcomes import (
    NO_END,
    NOT_FOLLOWED,
    FollowUp,
    answer,
    followed,
    gap_problem,
    reasons,
    with_first,
    within_stay,
)
from clinical.cohort.tasks.patterns import Pattern, matches
from clinical.config import TaskKind

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

ROUNDED = 1e-6
"""Hours: more than what differences of times lose."""


@dataclass(frozen=True, kw_only=True)
class StayBuilder(Builder):
    """A task about a stay that still lasts at the prediction time.

    Attributes:
        unit_exit: Codes that end the time in the unit; None where no unit is meant.
        stay_end: Codes that end the stay.
        death: Codes of death.
        next_stay: Codes at which another stay begins; one that has not ended by then has no end.
    """

    anchor: Pattern = "ICU_ADMISSION(//.*)?"
    unit_exit: Pattern | None = "ICU_DISCHARGE(//.*)?"
    stay_end: Pattern = "HOSPITAL_DISCHARGE(//.*)?"
    death: tuple[Pattern, ...] = DIED
    next_stay: Pattern = "HOSPITAL_ADMISSION(//.*)?"

    def _eligible(self, sift: Sift, dated: pl.DataFrame) -> Sift:
        died = self._since_anchor(sift.samples, dated.filter(matches(self.death)))
        sift = sift.leave_out(died, "died by the prediction time")
        left = dated.filter(matches(self._exits))
        return sift.leave_out(self._since_anchor(sift.samples, left), "left by the prediction time")

    @property
    def _exits(self) -> list[str]:
        return [self.stay_end, *([] if self.unit_exit is None else [self.unit_exit])]


@dataclass(frozen=True, kw_only=True)
class OutcomeBuilder(StayBuilder):
    """A task about what happens by the end of the stay, or within some hours.

    Attributes:
        within_hours: From the prediction time, wherever the subject is then; None asks until the
            end of the stay, inclusive.
        follow_up: Without the outcome by the end of `within_hours`, who is known not to have it:
            those with an event then or later ("record"), or everybody ("assumed"). After death
            nothing happens any more.
    """

    within_hours: Horizon | None = None
    follow_up: FollowUp = "record"

    @property
    @abstractmethod
    def _outcome(self) -> pl.Expr:
        """Which events are the outcome."""

    @property
    def _times(self) -> int:
        """How many of them it takes."""
        return 1

    @property
    def _coded_after(self) -> float:
        """Hours from the outcome to its events."""
        return 0.0

    @property
    def _unknown(self) -> str:
        return NO_END if self.within_hours is None else NOT_FOLLOWED

    def problem(self, kind: TaskKind, unit: str | None) -> str | None:
        """As of any builder; and the gap has to end before the horizon does."""
        return gap_problem(self.gap_hours, self.within_hours) or super().problem(kind, unit)

    def _labels(
        self, samples: pl.DataFrame, dated: pl.DataFrame, kind: TaskKind, unit: str | None
    ) -> pl.DataFrame:
        return self._answer(samples, dated, kind)

    def _reasons(self, kind: TaskKind) -> Sequence[str]:
        return reasons(self._unknown, gap_hours=self.gap_hours)

    def _answer(self, samples: pl.DataFrame, dated: pl.DataFrame, kind: TaskKind) -> pl.DataFrame:
        """The samples with the values of a binary or time-to-event task and `why`."""
        known = matches([self.stay_end, *self.death, self.next_stay])
        ahead = self._ahead(samples, dated, self._outcome | known)
        if self._coded_after > 0:  # what an earlier stay left to code comes before the question
            lag = self._coded_after + ROUNDED  # so that it is not after the end by a last digit
            at = pl.col("hours") - pl.when(self._outcome).then(lag).otherwise(0.0)
            ahead = ahead.with_columns(hours=at).filter(pl.col("hours") > 0)
        found = with_first(samples, ahead, self._outcome, "event", times=self._times)
        if self.within_hours is None:
            died, left = matches(self.death), matches([self.stay_end])
            # Codes go by the discharge, which of the dead is written some minutes later.
            ends = left if self._coded_after > 0 else left | died
            found = with_first(found, ahead, ends, "until")
            found = with_first(found, ahead, died, "died")
            found = found.with_columns(pl.coalesce("until", "died").alias("until")).drop("died")
            found = with_first(found, ahead, matches([self.next_stay]), "next")
            found = within_stay(found, "next")
        else:
            death = matches(self.death)
            found = followed(found, ahead, kind, follow_up=self.follow_up, death=death)
        return answer(
            found,
            kind,
            gap_hours=self.gap_hours,
            within_hours=self.within_hours,
            unknown=self._unknown,
        )
