"""Whether a condition shows, by codes or by values."""

from clinical.cohort.tasks.builder import Hours
from clinical.cohort.tasks.flow import Sift
from clinical.cohort.tasks.patterns import Pattern, matches
from clinical.cohort.tasks.stays import OutcomeBuilder
from clinical.cohort.window import earlier
from clinical.config import TaskKind

from dataclasses import dataclass
from typing import Annotated, ClassVar

import polars as pl
from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class Phenotype(OutcomeBuilder):
    """Some codes, or values beyond a limit, later in the stay or within some hours.

    Of a time-to-event task it is hours to the first, censored at the end of the stay, or with
    `within_hours` at death or the subject's last event.

    Attributes:
        codes: Any of them is the condition, such as the diagnoses of a discharge.
        above, below: Of the event's number, exclusive; an event without one doesn't count then.
        times: How many events of different times it takes; the outcome comes with the last.
        only_new: Leave out who has had the condition by the prediction time.
        coded_after_hours: How long after the end of their stay the codes stand, of an extract that
            places billing codes when they were given. A code is its own stay's, even where another
            has begun meanwhile.
    """

    codes: Annotated[tuple[Pattern, ...], Field(min_length=1)]
    above: float | None = None
    below: float | None = None
    times: Annotated[int, Field(ge=1)] = 1
    only_new: bool = False
    coded_after_hours: Hours = 0.0
    after_hours: Hours = 24.0

    kinds: ClassVar[tuple[TaskKind, ...]] = ("binary", "time_to_event")

    @property
    def _outcome(self) -> pl.Expr:
        shown = matches(self.codes)
        if self.above is not None:
            shown &= pl.col("numeric_value") > self.above
        if self.below is not None:
            shown &= pl.col("numeric_value") < self.below
        return shown.fill_null(False)

    @property
    def _times(self) -> int:
        return self.times

    @property
    def _coded_after(self) -> float:
        return self.coded_after_hours

    def _eligible(self, sift: Sift, dated: pl.DataFrame) -> Sift:
        sift = super()._eligible(sift, dated)
        if not self.only_new:
            return sift
        had = earlier(dated.filter(self._outcome), sift.samples).select("sample", "hours").unique()
        often = had.group_by("sample").len().filter(pl.col("len") >= self.times)
        return sift.leave_out(often, "has had it by the prediction time")
