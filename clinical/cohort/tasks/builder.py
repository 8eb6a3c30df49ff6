"""What all built-in tasks share: an anchor, a prediction time, and who may be predicted for.

A builder is a frozen object whose fields are the YAML keys of the task. It sees all events of some
subjects and gives samples, labels and the flow; it compares no times itself but asks
`cohort/window.py` for hours before and after the prediction time.
"""

from clinical.cohort.tasks.flow import Flow, Sift
from clinical.cohort.tasks.patterns import Pattern, matches, spoken
from clinical.cohort.window import ages, earlier, later
from clinical.config import TaskKind
from clinical.sections import Section

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

import meds
import polars as pl
from pydantic import Field

Hours = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Horizon = Annotated[float, Field(gt=0, allow_inf_nan=False)]

EVENTS = ("subject_id", "time", "code", "numeric_value")
"""The columns of the events that a builder reads."""

DIED = (meds.death_code, "(?i)HOSPITAL_DISCHARGE//(DIED|DEAD|EXPIRED|DEATH).*")
"""The usual codes of a death."""


class Minimum(Section):
    """What must be known of a subject at the prediction time."""

    min_age_years: float | None = Field(default=None, ge=0)
    max_age_years: float | None = Field(default=None, gt=0)
    """Ages at the prediction time, both inclusive; a subject without a birth is left out."""
    events: int = Field(default=0, ge=0)
    """How many visible events, at least."""
    codes: tuple[Pattern, ...] | None = None
    """Which events count; null = all."""
    hours: float | None = Field(default=None, gt=0)
    """Before the prediction time, in which they count; null = everything before it."""
    history_hours: float = Field(default=0.0, ge=0)
    """From the subject's first event but birth to the prediction time, at least."""


@dataclass(frozen=True)
class Built:
    """What a builder made of some subjects.

    Attributes:
        samples: `subject_id, prediction_time` and the value columns of the task, null where a
            sample has no label; sorted, each sample once.
        flow: How it came to that.
    """

    samples: pl.DataFrame
    flow: Flow


@dataclass(frozen=True, kw_only=True)
class Builder(ABC):
    """Labels from events; one prediction time at a number of hours after an anchor.

    Attributes:
        anchor: Codes that start the clock.
        which: Every anchor gives a sample, or the first of each subject alone. (The last would be
            known only in the future.)
        after_hours: From the anchor to the prediction time.
        gap_hours: From the prediction time; who has the outcome by its end gets no label.
        require: What must be known by then.
    """

    anchor: Pattern
    which: Literal["every", "first"] = "every"
    after_hours: Hours = 0.0
    gap_hours: Hours = 0.0
    require: Minimum = field(default_factory=Minimum)

    kinds: ClassVar[tuple[TaskKind, ...]]

    @abstractmethod
    def _eligible(self, sift: Sift, dated: pl.DataFrame) -> Sift:
        """Leaves out who cannot be predicted for, by what is visible."""

    @abstractmethod
    def _labels(
        self, samples: pl.DataFrame, dated: pl.DataFrame, kind: TaskKind, unit: str | None
    ) -> pl.DataFrame:
        """The samples with value columns and `why`."""

    @abstractmethod
    def _reasons(self, kind: TaskKind) -> Sequence[str]:
        """What `why` may say, in order."""

    def problem(self, kind: TaskKind, unit: str | None) -> str | None:
        """What the keys of a task say that don't go together, or None."""
        if kind not in self.kinds:
            return f"makes no labels of a {kind} task, but of {' and '.join(self.kinds)}"
        return None

    def build(self, events: pl.DataFrame, *, kind: TaskKind, unit: str | None = None) -> Built:
        """Samples, labels and the flow.

        Args:
            events: The columns `EVENTS` of whole subjects.
            kind, unit: Of the task.
        """
        dated = events.filter(pl.col("time").is_not_null())
        anchor = spoken(self.anchor)
        sift = Sift.begin(events["subject_id"].n_unique(), self._samples(dated), anchor)
        if self.which == "first":
            first = sift.samples.sort("prediction_time").unique("subject_id", keep="first")
            sift = sift.keep(first, "not the subject's first")
        sift = self._eligible(sift, dated)
        sift = self._sufficient(sift, dated)
        labels = self._labels(sift.samples, dated, kind, unit)
        values = [c for c in labels.columns if c.endswith("_value")]
        counted = [c for c in ("boolean_value", "categorical_value") if c in values]
        flow = sift.label(labels, list(self._reasons(kind)), counted[0] if counted else None)
        keys = ["subject_id", "prediction_time"]
        return Built(labels.select(*keys, *values).sort(keys), flow)

    def _samples(self, dated: pl.DataFrame) -> pl.DataFrame:
        wait = timedelta(hours=self.after_hours)
        return (
            dated.filter(matches([self.anchor]))
            .select("subject_id", (pl.col("time") + wait).alias("prediction_time"))
            .unique()
            .sort("subject_id", "prediction_time")
            .with_row_index("sample")
        )

    def _since_anchor(self, samples: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
        """Pairs of samples and events after the anchor and up to the prediction time."""
        return earlier(events, samples).filter(pl.col("hours") < self.after_hours)

    @staticmethod
    def _ahead(samples: pl.DataFrame, dated: pl.DataFrame, which: pl.Expr) -> pl.DataFrame:
        """Later events of a kind and each subject's last, which says how far the record goes."""
        is_last = pl.col("time") == pl.col("time").max().over("subject_id")
        return later(dated.filter(which | is_last), samples)

    def _sufficient(self, sift: Sift, dated: pl.DataFrame) -> Sift:
        """Leaves out of whom too little is known."""
        rule = self.require
        if rule.min_age_years is not None or rule.max_age_years is not None:
            births = dated.filter(pl.col("code") == meds.birth_code).with_row_index("event")
            low, high = rule.min_age_years or 0.0, rule.max_age_years or float("inf")
            aged = ages(births, sift.samples).filter(pl.col("years").is_between(low, high))
            sift = sift.keep(aged, "of another age, or age unknown")
        if rule.history_hours:
            others = dated.filter(pl.col("code") != meds.birth_code)
            begins = others.filter(pl.col("time") == pl.col("time").min().over("subject_id"))
            known = earlier(begins, sift.samples)
            enough = known.filter(pl.col("hours") >= rule.history_hours)
            sift = sift.keep(enough, f"first event less than {rule.history_hours:g} h before")
        if rule.events:
            counted = dated if rule.codes is None else dated.filter(matches(rule.codes))
            seen = earlier(counted, sift.samples, hours=rule.hours)
            enough = seen.group_by("sample").len().filter(pl.col("len") >= rule.events)
            sift = sift.keep(enough, "too few events of the kind required")
        return sift
