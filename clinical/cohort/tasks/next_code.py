"""Which of some codes comes next."""

from clinical.cohort.tasks.builder import Hours
from clinical.cohort.tasks.outcomes import reasons
from clinical.cohort.tasks.patterns import Pattern, matches
from clinical.cohort.tasks.stays import OutcomeBuilder
from clinical.cohort.window import later
from clinical.config import TaskKind

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import polars as pl
from pydantic import Field

SEVERAL = "several codes come at the same time"
NONE = "none of the codes comes"


@dataclass(frozen=True, kw_only=True)
class NextCode(OutcomeBuilder):
    """The first of some codes later in the stay or within some hours: where a patient goes next.

    Attributes:
        codes: From which it is. Where the pattern that matches has a group in brackets, the class
            is what the group matches (`ICU_ADMISSION//(.*)`), otherwise the whole code.
        otherwise: Class of samples that are known to have none; null gives them no label.
    """

    codes: Annotated[tuple[Pattern, ...], Field(min_length=1)]
    otherwise: Annotated[str, Field(min_length=1)] | None = None
    after_hours: Hours = 24.0

    kinds: ClassVar[tuple[TaskKind, ...]] = ("multiclass",)

    @property
    def _outcome(self) -> pl.Expr:
        return matches(self.codes)

    def _labels(
        self, samples: pl.DataFrame, dated: pl.DataFrame, kind: TaskKind, unit: str | None
    ) -> pl.DataFrame:
        found = self._answer(samples, dated, "binary").rename({"boolean_value": "comes"})
        named = self._named(later(dated.filter(self._outcome), samples))
        found = found.join(
            named, left_on=["sample", "event"], right_on=["sample", "hours"], how="left"
        )
        several = pl.col("comes") & (pl.col("n_names") > 1)
        none = ~pl.col("comes") & pl.lit(self.otherwise is None)
        why = pl.when(several).then(pl.lit(SEVERAL)).when(none).then(pl.lit(NONE)).otherwise("why")
        name = pl.when("comes").then("name").otherwise(pl.lit(self.otherwise, dtype=pl.String))
        return found.with_columns(
            pl.when(why.is_null()).then(name).alias("categorical_value"), why.alias("why")
        )

    def _named(self, ahead: pl.DataFrame) -> pl.DataFrame:
        """`sample, hours, name, n_names`: the class of each time, and how many there are then."""
        whole = [pl.col("code").str.extract(f"^(?:{pattern})$") for pattern in self.codes]
        name = pl.coalesce(*whole, "code")
        return (
            ahead.with_columns(name=name)
            .group_by("sample", "hours")
            .agg(pl.col("name").first(), pl.col("name").n_unique().alias("n_names"))
        )

    def _reasons(self, kind: TaskKind) -> Sequence[str]:
        none = [] if self.otherwise is not None else [NONE]
        return reasons(SEVERAL, *none, self._unknown, gap_hours=self.gap_hours)
