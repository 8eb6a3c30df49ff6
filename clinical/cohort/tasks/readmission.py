"""Coming back after a discharge."""

from clinical.cohort.tasks.builder import DIED, Builder, Horizon
from clinical.cohort.tasks.flow import Sift
from clinical.cohort.tasks.outcomes import (
    NOT_FOLLOWED,
    FollowUp,
    answer,
    followed,
    gap_problem,
    reasons,
    with_first,
)
from clinical.cohort.tasks.patterns import Pattern, matches
from clinical.cohort.window import earlier
from clinical.config import TaskKind

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl


@dataclass(frozen=True, kw_only=True)
class Readmission(Builder):
    """Another admission within some hours of a discharge.

    Of a time-to-event task it is hours to it, censored at death or at the subject's last event.
    Who dies without one was not readmitted.

    Attributes:
        readmission: Codes of an admission; name those of emergencies alone to leave planned ones
            out.
        death: Codes of death; who has died by the prediction time is left out.
        gap_hours: Who is back so soon was transferred: no label.
        within_hours: From the prediction time.
        follow_up: Who is known not to have come back: those with an event at the end of
            `within_hours` or later ("record"), or all who have no admission by then ("assumed").
            Most records end with a discharge, so that "record" would keep those who came back.
    """

    anchor: Pattern = "HOSPITAL_DISCHARGE(//.*)?"
    readmission: Pattern = "HOSPITAL_ADMISSION(//.*)?"
    death: tuple[Pattern, ...] = DIED
    within_hours: Horizon = 720.0
    follow_up: FollowUp = "assumed"

    kinds: ClassVar[tuple[TaskKind, ...]] = ("binary", "time_to_event")

    def problem(self, kind: TaskKind, unit: str | None) -> str | None:
        """As of any builder; and the gap has to end before the horizon does."""
        return gap_problem(self.gap_hours, self.within_hours) or super().problem(kind, unit)

    def _eligible(self, sift: Sift, dated: pl.DataFrame) -> Sift:
        # A code of discharge says that the patient died, at the anchor itself.
        died = earlier(dated.filter(matches(self.death)), sift.samples)
        sift = sift.leave_out(died, "died by the prediction time")
        back = self._since_anchor(sift.samples, dated.filter(matches([self.readmission])))
        return sift.leave_out(back, "back by the prediction time")

    def _labels(
        self, samples: pl.DataFrame, dated: pl.DataFrame, kind: TaskKind, unit: str | None
    ) -> pl.DataFrame:
        back, death = matches([self.readmission]), matches(self.death)
        ahead = self._ahead(samples, dated, back | death)
        found = with_first(samples, ahead, back, "event")
        found = followed(found, ahead, kind, follow_up=self.follow_up, death=death)
        return answer(
            found,
            kind,
            gap_hours=self.gap_hours,
            within_hours=self.within_hours,
            unknown=NOT_FOLLOWED,
        )

    def _reasons(self, kind: TaskKind) -> Sequence[str]:
        return reasons(NOT_FOLLOWED, gap_hours=self.gap_hours)
