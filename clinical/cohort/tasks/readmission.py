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
from clinical.cohort.window import earlier, later
from clinical.config import TaskKind

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

STAYED = "in again from the discharge on"
DIGITS = 6
"""Of hours: what differences of times lose is less."""


@dataclass(frozen=True, kw_only=True)
class Readmission(Builder):
    """Another admission within some hours of a discharge.

    Of a time-to-event task it is hours to it, censored at death or at the subject's last event.
    Who dies without one was not readmitted.

    Who is admitted at the very time of the discharge is back by the prediction time and left out,
    as transfers are often written so. Where the subject is not known to have been in before, that
    admission is taken as the stay's own (in and out on a day, where days alone are known), and
    there is no label if the next that comes is a discharge again.

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
        moves = earlier(self._moves(dated), sift.samples)
        since_anchor = self.after_hours - pl.col("hours")
        moves = moves.with_columns(at=since_anchor.round(DIGITS))
        last = (
            _alone(moves.filter(pl.col("at") < 0))
            .sort("at")
            .group_by("sample")
            .agg(pl.col("is_in").last())
        )
        at_once = moves.filter(pl.col("at") == 0, "is_in")
        at_once = at_once.join(last.filter("is_in"), on="sample", how="semi")
        back = [at_once, moves.filter(pl.col("at") > 0, "is_in")]
        return sift.leave_out(pl.concat(back), "back by the prediction time")

    def _labels(
        self, samples: pl.DataFrame, dated: pl.DataFrame, kind: TaskKind, unit: str | None
    ) -> pl.DataFrame:
        back, death = matches([self.readmission]), matches(self.death)
        ahead = self._ahead(samples, dated, back | death)
        found = with_first(samples, ahead, back, "event")
        found = followed(found, ahead, kind, follow_up=self.follow_up, death=death)
        found = answer(
            found,
            kind,
            gap_hours=self.gap_hours,
            within_hours=self.within_hours,
            unknown=NOT_FOLLOWED,
        )
        stayed = pl.col("sample").is_in(self._stayed(samples, dated).implode())
        values = [pl.when(~stayed).then(c).alias(c) for c in found.columns if c.endswith("_value")]
        why = pl.when(stayed).then(pl.lit(STAYED)).otherwise("why").alias("why")
        return found.with_columns(*values, why)

    def _stayed(self, samples: pl.DataFrame, dated: pl.DataFrame) -> pl.Series:
        """Samples admitted at the discharge itself whose next move is a discharge again."""
        moves = self._moves(dated)
        seen = earlier(moves, samples)
        at_once = seen.filter((pl.col("hours") - self.after_hours).round(DIGITS) == 0, "is_in")
        ahead = _alone(later(moves, samples).rename({"hours": "at"}))
        following = ahead.sort("at").group_by("sample").agg(pl.col("is_in").first())
        out = following.filter(~pl.col("is_in"))
        return at_once.join(out, on="sample", how="semi")["sample"].unique()

    def _moves(self, dated: pl.DataFrame) -> pl.DataFrame:
        """Admissions and discharges."""
        is_in, is_out = matches([self.readmission]), matches([self.anchor])
        return dated.filter(is_in | is_out).with_columns(is_in=is_in, is_out=is_out)

    def _reasons(self, kind: TaskKind) -> Sequence[str]:
        return [*reasons(NOT_FOLLOWED, gap_hours=self.gap_hours), STAYED]


def _alone(moves: pl.DataFrame) -> pl.DataFrame:
    """Times `at` of admissions alone or of discharges alone, which say where a subject is then.

    Where both are at one time, it was in or out after it as it was before.
    """
    at = moves.group_by("sample", "at").agg(pl.col("is_in", "is_out").any())
    return at.filter(pl.col("is_in") != pl.col("is_out"))
