"""What an evaluation says of groups of patients, as tables and pictures."""

from __future__ import annotations

from clinical.errors import ConfigError
from clinical.evaluation.groups import ALL, NOT_SHOWN, RATES
from clinical.evaluation.judged import Judged
from clinical.evaluation.plots import BLUE, GREY
from clinical.evaluation.showing import table_html
from clinical.evaluation.table import HEADS, UNDEFINED, format_value, records

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

HEIGHT = 0.32
"""Of a line, in inches."""


@dataclass(frozen=True, repr=False)
class Subgroups:
    """How a model does in groups of patients; shows itself as tables in a notebook.

    Attributes:
        table: one row a task, group and metric: task, column, group, metric, value, low, high (95 %
            interval), difference (from all rows not in the group) with `difference_low` and
            `difference_high`, n, subjects, events, note; `class` and `horizon_hours` where there
            are some. The first rows, of column and group "all", are about everybody. Groups that
            are not shown are counted in one row a column.
        smallest: number of people below which nothing is shown.
    """

    table: pd.DataFrame
    smallest: int

    def display_table(self, metrics: list[str] | None = None) -> pd.DataFrame:
        """A row a group as text for a screen, with a column for each metric.

        Args:
            metrics: by default all but those at thresholds.
        """
        asked = self._metrics(at_thresholds=False) if metrics is None else metrics
        heads = [name for name in (*HEADS, "column", "group") if name in self.table]
        shown = []
        for _, rows in self.table.groupby(heads, sort=False, dropna=False):
            first = rows.iloc[0]
            row: dict[str, object] = {str(head): first[head] for head in heads}
            row |= {name: _count(first[name]) for name in ("n", "subjects", "events")}
            found = rows.set_index("metric").reindex(asked)[["value", "low", "high"]]
            for metric, numbers in zip(asked, found.to_numpy(np.float64), strict=True):
                row[metric] = format_value(*map(float, numbers), digits=2)
            row["note"] = first["note"] if first["group"] == NOT_SHOWN else ""
            shown.append(row)
        return pd.DataFrame(shown)

    def plot(
        self, ax: Axes | None = None, *, metric: str = "AUROC", task: str | None = None
    ) -> Axes:
        """One metric of every group with its interval, beside that of everybody.

        Raises:
            ConfigError: there is no such metric or task, or several tasks and none is named.
        """
        rows = self.rows(metric, task)
        lines = lines_of(rows)
        if ax is None:
            import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

            size = (7.0, 1.2 + HEIGHT * len(lines))
            _, ax = plt.subplots(figsize=size, layout="constrained")
        draw_forest(rows, ax)
        ax.set(xlabel=f"{metric} (95 % interval)", title=str(rows["named"].iloc[0]))
        return ax

    def plot_trend(
        self, ax: Axes | None = None, *, metric: str = "AUROC", task: str | None = None
    ) -> Axes:
        """One metric by period, of what `Evaluation.trend` gives.

        Raises:
            ConfigError: as for `plot`, or these are no periods.
        """
        rows = self.rows(metric, task)
        if "period" not in set(rows["column"]):
            raise ConfigError("trend: these groups are no periods; ask Evaluation.trend for them")
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
        whole = rows[rows["column"] == ALL]
        each = rows[rows["column"] == "period"]
        gaps = np.abs(each[["low", "high"]].sub(each["value"], axis=0)).T
        places = np.arange(len(each))
        ax.errorbar(
            places, each["value"], yerr=gaps, color=BLUE, fmt="o-", capsize=3, linewidth=1.5
        )
        if len(whole):
            value = float(whole["value"].iloc[0])
            ax.axhline(value, color=GREY, linestyle=":", linewidth=1, label="all periods")
            ax.legend(fontsize="small")
        ax.set(ylabel=f"{metric} (95 % interval)", title=str(rows["named"].iloc[0]))
        ax.set_xticks(places, list(each["group"]), rotation=45 if len(each) > 6 else 0)
        ax.grid(axis="y", alpha=0.25)
        return ax

    def to_json(self) -> list[dict[str, Any]]:
        """The rows of the table for `json.dump`, null where not defined."""
        return records(self.table)

    def _metrics(self, *, at_thresholds: bool) -> list[str]:
        return [
            metric
            for metric in dict.fromkeys(self.table["metric"].dropna())
            if (" at " in metric and metric.partition(" at ")[0] in RATES) == at_thresholds
        ]

    @property
    def metrics(self) -> list[str]:
        """All but those at thresholds."""
        return self._metrics(at_thresholds=False)

    def of(self, judged: Judged) -> Subgroups:
        """The rows of one task, class or horizon."""
        rows = self.table[self.table["task"] == judged.task]
        for head, value in (("class", judged.label_class), ("horizon_hours", judged.horizon_hours)):
            if head in rows:
                rows = rows[rows[head].isna() if value is None else rows[head] == value]
        return Subgroups(rows, self.smallest)

    @property
    def columns(self) -> list[str]:
        """By what patients are grouped."""
        return [name for name in dict.fromkeys(self.table["column"]) if name != ALL]

    @property
    def shown(self) -> pd.DataFrame:
        """Rows of groups that are shown."""
        return self.table[(self.table["column"] != ALL) & (self.table["group"] != NOT_SHOWN)]

    def by_column(self, name: str, *, is_other: bool = False) -> Subgroups:
        """Everybody, and the groups of one column, or of all others."""
        column = self.table["column"]
        kept = (column == ALL) | ((column == name) != is_other)
        return Subgroups(self.table[kept], self.smallest)

    def rows(self, metric: str, task: str | None) -> pd.DataFrame:
        """Of one metric and task, with their task as `named` and column as `heading`."""
        heads = [name for name in HEADS if name in self.table]
        named = self.table[heads].apply(
            lambda row: "/".join(f"{each}" for each in row if pd.notna(each)), axis=1
        )
        rows = self.table.assign(named=named)
        hidden = rows[rows["group"] == NOT_SHOWN]
        n_hidden = hidden["note"].str.extract(r"^(\d+)", expand=False)
        told = dict(zip(zip(hidden["named"], hidden["column"], strict=True), n_hidden, strict=True))
        rows["heading"] = [
            f"{column} ({told[key]} not shown)" if (key := (name, column)) in told else column
            for name, column in zip(rows["named"], rows["column"], strict=True)
        ]
        rows = rows[rows["metric"] == metric]
        if not len(rows):
            known = ", ".join(dict.fromkeys(self.table["metric"].dropna()))
            raise ConfigError(f"metric: there is no {metric!r}; choose one of {known}")
        tasks = list(dict.fromkeys(rows["named"]))
        if task is None and len(tasks) == 1:
            return rows
        if task not in tasks:
            problem = "say which" if task is None else f"there is no {task!r}"
            raise ConfigError(f"task: {problem}; choose one of {', '.join(tasks)}")
        return rows[rows["named"] == task]

    def _repr_html_(self) -> str:
        caption = (
            f"Groups of fewer than {self.smallest} people, or with fewer of either outcome, are "
            "not shown, nor those from which one could be computed."
        )
        tables = table_html(self.display_table())
        if at := self._metrics(at_thresholds=True):
            tables += "<p>At thresholds chosen elsewhere:</p>"
            tables += table_html(self.display_table(at))
        return f"{tables}<p>{html.escape(caption)}</p>"

    def __repr__(self) -> str:
        return self.display_table().to_string(index=False)


def draw_forest(rows: pd.DataFrame, ax: Axes) -> None:
    """Values with intervals, one below the other, under the name of each column."""
    lines = lines_of(rows)
    whole = rows[rows["column"] == ALL]
    if len(whole):
        ax.axvline(float(whole["value"].iloc[0]), color=GREY, linewidth=1, linestyle=":")
    labels = []
    for place, (label, row) in enumerate(lines):
        labels.append(label)
        if row is None or not np.isfinite(row["value"]):
            continue
        gaps = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        ax.errorbar(
            row["value"],
            -place,
            xerr=None if np.isnan(gaps).any() else np.clip(gaps, 0, None),
            color=BLUE,
            fmt="s" if row["column"] == ALL else "o",
            capsize=3,
            linewidth=1.5,
        )
        events = "" if pd.isna(row["events"]) else f", {int(row['events']):,} events"
        ax.annotate(
            f"{int(row['n']):,} rows{events}",
            (1.01, -place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize="small",
        )
    ax.set_yticks(-np.arange(len(lines)), labels)
    for tick, (_, row) in zip(ax.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if row is None else "normal")
    ax.set_ylim(-len(lines) + 0.4, 0.6)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.grid(axis="x", alpha=0.25)


def lines_of(rows: pd.DataFrame) -> list[tuple[str, pd.Series | None]]:
    """A line a column (its name, no row) and group."""
    lines: list[tuple[str, pd.Series | None]] = []
    for heading, part in rows.groupby("heading", sort=False):
        if heading != ALL:
            lines.append((str(heading), None))
        lines += [(str(row["group"]), row) for _, row in part.iterrows()]
    return lines


def _count(value: Any) -> str:
    return UNDEFINED if pd.isna(value) else f"{int(value):,}"
