"""How long a stay lasts, whether it is long, or when it ends."""

from clinical.cohort.tasks.builder import Horizon, Hours
from clinical.cohort.tasks.outcomes import NO_END, hours_to_event, with_first, within_stay
from clinical.cohort.tasks.patterns import matches
from clinical.cohort.tasks.stays import StayBuilder
from clinical.cohort.window import end_of_day, later
from clinical.config import TaskKind

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

DIED = "the stay ends with death"
UNITS = {"hours": 1.0, "days": 24.0}


@dataclass(frozen=True, kw_only=True)
class LengthOfStay(StayBuilder):
    """Time from the anchor to the end of the stay (unit or hospital, whichever ends first).

    Of a regression task in its `unit:`, hours or days; of a binary one whether it is longer than
    `longer_than_hours`; of a time-to-event task the hours from the prediction time to leaving
    alive, censored at death. Set `unit_exit: null` to ask about the hospital stay.

    A stay ends with death where one is recorded by its end, on the same day (of many deaths the day
    alone is known) or within `death_margin_hours` (the discharge of the dead is often written
    later than the exit from the unit), unless another stay begins before it.

    Attributes:
        measured: The whole stay, or what remains of it at the prediction time.
        longer_than_hours: Of a binary task.
        died: Count stays that end with death like others, or give them no label.
        death_margin_hours: How long after the end of the stay, beyond its day too, a death counts.
    """

    after_hours: Hours = 24.0
    measured: Literal["whole", "remaining"] = "whole"
    longer_than_hours: Horizon | None = None
    died: Literal["count", "unlabelled"] = "count"
    death_margin_hours: Hours = 6.0

    kinds: ClassVar[tuple[TaskKind, ...]] = ("regression", "binary", "time_to_event")

    def problem(self, kind: TaskKind, unit: str | None) -> str | None:
        """As of any builder; and the unit has to be one of time, the threshold of a binary task."""
        if (problem := super().problem(kind, unit)) is not None:
            return problem
        if kind == "regression" and unit not in UNITS:
            return f"measures time: set unit: to {' or '.join(UNITS)}"
        if (kind == "binary") != (self.longer_than_hours is not None):
            if kind == "binary":
                return "of a binary task needs longer_than_hours:"
            return "longer_than_hours: is for a binary task; take it out"
        if self.gap_hours:
            return "gap_hours: says nothing of how long a stay is; take it out"
        return None

    def _labels(
        self, samples: pl.DataFrame, dated: pl.DataFrame, kind: TaskKind, unit: str | None
    ) -> pl.DataFrame:
        ends = matches([*self._exits, *self.death])
        begins = matches([self.next_stay, self.anchor])
        ahead = later(dated.filter(ends | begins), samples)
        found = with_first(samples, ahead, ends, "until")
        found = with_first(found, ahead, matches(self.death), "death")
        found = with_first(found, ahead, begins, "next").with_columns(event="until")
        found = within_stay(found, "next")
        died = self._died()
        if kind == "time_to_event":
            alive = pl.when(~died).then("event").alias("event")
            return hours_to_event(
                found.with_columns(alive), gap_hours=0.0, within_hours=None, unknown=NO_END
            )
        is_out = died if self.died == "unlabelled" else pl.lit(False)
        no_end = pl.when(pl.col("until").is_null()).then(pl.lit(NO_END))
        why = no_end.when(is_out).then(pl.lit(DIED))
        before = self.after_hours if self.measured == "whole" else 0.0
        hours = pl.when(why.is_null()).then(pl.col("until") + before)
        if kind == "binary":
            value = (hours > self.longer_than_hours).alias("boolean_value")
        else:
            assert unit is not None
            value = (hours / UNITS[unit]).alias("float_value")
        return found.with_columns(value, why.alias("why"))

    def _died(self) -> pl.Expr:
        """Whether the stay that is over at `until` ended with `death`, given the `next` one."""
        death, until, begins = pl.col("death"), pl.col("until"), pl.col("next")
        soon = (death < end_of_day("until")) | (death <= until + self.death_margin_hours)
        return (soon & (begins.is_null() | (death <= begins))).fill_null(False)

    def _reasons(self, kind: TaskKind) -> Sequence[str]:
        return [NO_END, *([DIED] if self.died == "unlabelled" else [])]
