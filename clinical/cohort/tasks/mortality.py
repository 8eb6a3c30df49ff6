"""Death in the hospital, or within some hours."""

from clinical.cohort.tasks.builder import Hours
from clinical.cohort.tasks.patterns import matches
from clinical.cohort.tasks.stays import OutcomeBuilder
from clinical.config import TaskKind

from dataclasses import dataclass
from typing import ClassVar

import polars as pl


@dataclass(frozen=True, kw_only=True)
class Mortality(OutcomeBuilder):
    """Death by the end of the hospital stay, or within some hours of the prediction time.

    A stay without an end is labelled only by a later death. Of a time-to-event task it is hours to
    death, censored at the end of the stay, or with `within_hours` at the subject's last event.
    """

    after_hours: Hours = 48.0

    kinds: ClassVar[tuple[TaskKind, ...]] = ("binary", "time_to_event")

    @property
    def _outcome(self) -> pl.Expr:
        return matches(self.death)
