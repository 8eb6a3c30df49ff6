"""Who became a sample and who did not, counted step by step, as papers draw it.

A stage of the flow is one of `STAGES`. What is known at the prediction time decides who is
eligible; what comes later decides the label alone: nobody is left out for their future.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import pandas as pd
import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGES = (
    "extract",
    "no anchor",
    "anchor",
    "left out",
    "eligible",
    "no label",
    "labelled",
    "outcome",
)
SCHEMA = {"stage": pl.String, "what": pl.String, "samples": pl.Int64, "subjects": pl.Int64}


@dataclass(frozen=True)
class Flow:
    """Counts of samples and subjects on their way to labels.

    Attributes:
        lines: `stage, what, samples, subjects` in order; `samples` is null before there are any,
            and `subjects` counts, where somebody is left out, those who have no sample left.
    """

    lines: pl.DataFrame

    @classmethod
    def of(cls, lines: list[tuple[str, str, int | None, int]]) -> Self:
        """From rows."""
        return cls(pl.DataFrame(lines, schema=SCHEMA, orient="row"))

    @classmethod
    def together(cls, flows: "list[Flow]") -> Self:
        """The flows of several shards, which have no subject in common, as one."""
        rows = pl.concat([flow.lines for flow in flows])
        total = rows.group_by("stage", "what", maintain_order=True).agg(
            pl.when(pl.col("samples").count() > 0).then(pl.col("samples").sum()).alias("samples"),
            pl.col("subjects").sum(),
        )
        order = pl.col("stage").replace_strict({s: n for n, s in enumerate(STAGES)})
        # Which outcomes a shard has, and so their order, is chance.
        name = pl.when(pl.col("stage") == "outcome").then("what")
        return cls(total.sort(order, name, maintain_order=True))

    @property
    def table(self) -> pd.DataFrame:
        """`stage, what, samples, subjects`, a row a line."""
        return self.lines.to_pandas().astype({"samples": "Int64", "subjects": "Int64"})

    def count(self, stage: str) -> int:
        """The samples of a stage."""
        return int(self.lines.filter(pl.col("stage") == stage)["samples"].sum())

    def lost(self) -> str:
        """In one line, who got no label and why."""
        lost = self.lines.filter(pl.col("stage").is_in(["left out", "no label"]))
        why = [f"{n:,} {what}" for what, n in lost.select("what", "samples").iter_rows() if n]
        return "; ".join(why) or "there are none"

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw it as boxes from top to bottom, those who leave beside them.

        Args:
            ax: Where to draw; by default a figure of its own.
        """
        from clinical.cohort.tasks.flow_picture import draw

        return draw(self.lines, ax)


@dataclass(frozen=True)
class Sift:
    """The samples that are left, and what was said of the others.

    Attributes:
        samples: `sample, subject_id, prediction_time`.
        lines: Of the flow so far.
    """

    samples: pl.DataFrame
    lines: tuple[tuple[str, str, int | None, int], ...]

    @classmethod
    def begin(cls, subjects: int, samples: pl.DataFrame, anchor: str) -> Self:
        """Everybody with an anchor."""
        n_with = samples["subject_id"].n_unique()
        return cls(
            samples,
            (
                ("extract", "subjects of the extract", None, subjects),
                ("no anchor", f"no event {anchor}", None, subjects - n_with),
                ("anchor", f"events {anchor}", samples.height, n_with),
            ),
        )

    def leave_out(self, gone: pl.DataFrame, what: str) -> Self:
        """Without the samples named by the column `sample` of a frame."""
        kept = self.samples.join(gone.select("sample").unique(), on="sample", how="anti")
        return type(self)(kept, (*self.lines, self._line("left out", what, self.samples, kept)))

    def keep(self, found: pl.DataFrame, what: str) -> Self:
        """With the samples alone that the column `sample` of a frame names."""
        return self.leave_out(self.samples.join(found, on="sample", how="anti"), what)

    def label(self, labels: pl.DataFrame, why: list[str], outcome: str | None) -> Flow:
        """The whole flow, once labels are made.

        Args:
            labels: The samples left with `why` (null where labelled).
            why: What `why` may say, in order.
            outcome: The column whose values are counted.
        """
        lines = [*self.lines, ("eligible", "samples", *_sizes(self.samples))]
        left = labels
        for words in why:
            kept = left.filter(pl.col("why").is_null() | (pl.col("why") != words))
            lines.append(self._line("no label", words, left, kept))
            left = kept
        lines.append(("labelled", "labels", *_sizes(left)))
        if outcome is not None:
            for (value,), rows in left.sort(outcome).group_by(outcome, maintain_order=True):
                lines.append(("outcome", _word(value), *_sizes(rows)))
        return Flow.of(lines)

    @staticmethod
    def _line(
        stage: str, what: str, before: pl.DataFrame, after: pl.DataFrame
    ) -> tuple[str, str, int, int]:
        (n_before, of_before), (n_after, of_after) = _sizes(before), _sizes(after)
        return stage, what, n_before - n_after, of_before - of_after


def _sizes(rows: pl.DataFrame) -> tuple[int, int]:
    return rows.height, rows["subject_id"].n_unique()


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
