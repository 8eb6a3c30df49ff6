"""Judge a predictions table: a table of metrics with intervals, and its pictures."""

from __future__ import annotations

from clinical.config import TaskKind
from clinical.errors import ConfigError
from clinical.evaluation.judged import Judged
from clinical.evaluation.metrics import Scored
from clinical.evaluation.parts import cost_table, format_costs, split_parts
from clinical.evaluation.plots import Drawn, plot_calibration, plot_pr, plot_roc, plot_values
from clinical.evaluation.predictions import read_judged
from clinical.evaluation.table import HEADS, format_table, format_value, metric_rows
from clinical.places import check_no_file

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PLOTS: dict[str, Callable[[Sequence[Drawn], Axes], Axes]] = {
    "roc": plot_roc,
    "pr": plot_pr,
    "calibration": plot_calibration,
}
SIZES = {"roc": (5.0, 5.3), "pr": (5.0, 5.3), "calibration": (5.0, 7.0), "values": (5.0, 5.3)}
FIGURES: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("roc", "pr", "calibration"),
    "regression": ("values",),
}
"""Kind of what is judged -> its pictures."""
INTERVALS = "95 % percentile bootstrap by subject"


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What `evaluate` found; shows itself as a table in a notebook.

    Attributes:
        table: one row a task and metric: task, metric, value, low, high (95 % interval), n,
            events (null where the kind has none), note; a `class` column where classes were
            scored, null for all together, and `horizon_hours` for time-to-event; with a baseline
            also baseline and difference (model − baseline), each with `_low` and `_high`. A
            value that is not defined is NaN, and the note says why.
        judged: the rows behind it, one entry a task (and class).
        resamples, seed: of the bootstrap.
        costs: where the predictions say in `left_out` what they lack, one row a task, part and
            metric: task, left_out, metric, whole, without, difference (whole − without, with a
            paired interval `_low` and `_high`), n, events, note; None otherwise.
    """

    table: pd.DataFrame
    judged: tuple[Judged, ...]
    resamples: int
    seed: int
    costs: pd.DataFrame | None = None

    @property
    def counts(self) -> pd.DataFrame:
        """Per task: rows judged, subjects, events, and rows left out by reason."""
        rows = []
        for one in self.judged:
            row: dict[str, Any] = {"task": one.task, "class": one.label_class}
            row |= {"horizon_hours": one.horizon_hours}
            row |= {"n": len(one.labels), "subjects": len(np.unique(one.subjects))}
            row |= {"events": one.events, "without_score": one.without_score}
            row |= {"without_label": one.without_label}
            if one.baseline is not None:
                row["without_baseline"] = one.without_baseline
            rows.append(row)
        return _tidy(pd.DataFrame(rows))

    def display_table(self) -> pd.DataFrame:
        """The table as text for a screen: intervals in brackets, a dash for what is not defined."""
        return format_table(self.table)

    def display_costs(self) -> pd.DataFrame:
        """The costs as text for a screen, in the same way.

        Raises:
            ConfigError: the predictions have no column left_out.
        """
        if self.costs is None:
            raise ConfigError(
                "costs: the predictions have no column left_out; Predictor.leave_out makes some"
            )
        return format_costs(self.costs)

    def to_json(self) -> dict[str, Any]:
        """A mapping for `json.dump`: counts and metrics by task; null where not defined."""
        tasks = []
        for one, counts in zip(self.judged, _records(self.counts), strict=True):
            metrics = {}
            for row in _records(self._rows_of(one)):
                name = row.pop("metric")
                ignored = (*HEADS, "n", "events")
                metrics[name] = {key: cell for key, cell in row.items() if key not in ignored}
            tasks.append({**counts, "metrics": metrics})
        content = {
            "interval": INTERVALS,
            "resamples": self.resamples,
            "seed": self.seed,
            "tasks": tasks,
        }
        return content if self.costs is None else content | {"costs": _records(self.costs)}

    def plot_roc(self, ax: Axes | None = None, *, task: str | None = None) -> Axes:
        """ROC curve of a task; `task` may be left out where there is only one."""
        return self._plot("roc", ax, task)

    def plot_pr(self, ax: Axes | None = None, *, task: str | None = None) -> Axes:
        """Precision-recall curve of a task; its stepwise area is the average precision."""
        return self._plot("pr", ax, task)

    def plot_calibration(self, ax: Axes | None = None, *, task: str | None = None) -> Axes:
        """Observed frequency against predicted risk of a task, with the scores' histogram."""
        return self._plot("calibration", ax, task)

    def plot_values(self, ax: Axes | None = None, *, task: str | None = None) -> Axes:
        """True against predicted values of a regression task."""
        return self._plot("values", ax, task)

    def save_figures(self, folder: Path) -> list[Path]:
        """Write `roc.png` and so on, as the kind of task has them.

        The name holds the task where there are several, and the class.
        """
        check_no_file(folder, what="figures", remedy="name a folder for the pictures")
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for place, one in enumerate(self.judged):
            suffix = ""
            if len(self.judged) > 1:  # the number keeps two names apart that look alike as files
                suffix = f"_{place}_{re.sub(r'[^A-Za-z0-9_.-]+', '-', one.name)}"
            for kind in FIGURES.get(one.kind, ()):
                figure = Figure(figsize=SIZES[kind], layout="constrained")
                axes = self._draw(kind, one, figure.subplots())
                axes.set_title(_title(one))
                path = folder / f"{kind}{suffix}.png"
                figure.savefig(path, dpi=150)
                written.append(path)
        return written

    @property
    def headlines(self) -> list[str]:
        """A line a task (and class): how many rows were judged, and how many could not be."""
        left_out = {
            "without_score": "without a score",
            "without_label": "without a label",
            "without_baseline": "without a baseline score",
        }
        lines = []
        for one, row in zip(self.judged, _records(self.counts), strict=True):
            text = f"{one.name}: {row['n']:,} rows of {row['subjects']:,} subjects"
            if row["events"] is not None:
                text += f", {row['events']:,} events"
            absent = [f"{row[key]:,} {what}" for key, what in left_out.items() if row.get(key)]
            lines.append(text + (f"; left out: {', '.join(absent)}" if absent else ""))
        return lines

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(line) for line in self.headlines)
        caption = f"Intervals: {INTERVALS}, {self.resamples:,} resamples."
        tables = self.display_table().to_html(index=False)
        if self.costs is not None:
            title = "<p>Without each part (difference: whole − without):</p>"
            tables += title + self.display_costs().to_html(index=False)
        return f"<p>{lines}<br>{caption}</p>{tables}"

    def __repr__(self) -> str:
        return self.display_table().to_string(index=False)

    def _plot(self, kind: str, ax: Axes | None, task: str | None) -> Axes:
        one = self._pick(task)
        if kind not in (own := FIGURES.get(one.kind, ())):
            remedy = f"plot_{' or plot_'.join(own)}" if own else "there is none for it"
            raise ConfigError(f"task: {one.name} is {one.kind}, which has no such plot; {remedy}")
        if ax is None:
            import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

            _, ax = plt.subplots(figsize=SIZES[kind], layout="constrained")
            ax.set_title(_title(one))
        return self._draw(kind, one, ax)

    def _draw(self, kind: str, one: Judged, ax: Axes) -> Axes:
        if kind == "values":
            return plot_values(one.scores, one.labels, ax)
        return PLOTS[kind](self._drawn(one), ax)

    def _rows_of(self, one: Judged) -> pd.DataFrame:
        """Of the table."""
        rows = self.table[self.table["task"] == one.task]
        for head, value in (("class", one.label_class), ("horizon_hours", one.horizon_hours)):
            if head in rows:
                rows = rows[rows[head].isna() if value is None else rows[head] == value]
        return rows

    def _pick(self, task: str | None) -> Judged:
        named = {one.name: one for one in self.judged}
        if task is None and len(named) == 1:
            return self.judged[0]
        if task not in named:
            problem = "say which" if task is None else f"there is no {task!r}"
            raise ConfigError(f"task: {problem}; choose one of {', '.join(named)}")
        return named[task]

    def _drawn(self, one: Judged) -> list[Drawn]:
        rows = self._rows_of(one)
        sets = [("model", one.scores, ("value", "low", "high"))]
        if one.baseline is not None:
            sets.append(("baseline", one.baseline, ("baseline", "baseline_low", "baseline_high")))
        return [
            Drawn(
                name=name,
                scored=Scored.of(scores, one.labels),
                subjects=one.subjects,
                figures={
                    str(row["metric"]): format_value(*(row[column] for column in columns), digits=2)
                    for row in rows.to_dict("records")
                },
            )
            for name, scores, columns in sets
        ]


def evaluate(
    predictions: pd.DataFrame,
    labels: pd.DataFrame | None = None,
    *,
    baseline: pd.DataFrame | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Judge scores against what happened, with 95 % bootstrap intervals resampled by subject.

    Args:
        predictions: columns subject_id, prediction_time, task, score, class where classes are
            scored, kind (of the task, as in the configuration; without it rows with horizon_hours
            are time_to_event and all others binary, each class against the rest), and label
            unless `labels` is given: 0 or 1 for the row's class, the value, or hours, with
            label_observed. Rows without a score or a label are left out and counted.
            With a column left_out, as `Predictor.leave_out` writes it, the rows where it is null
            are judged, and the others say in `Evaluation.costs` what each part is worth.
        labels: a frame in MEDS' label schema (subject_id, prediction_time, and boolean_value or
            what else the kind of task has) that takes the place of the column `label`; with a
            column task where there are several.
        baseline: other scores for the same samples, in the shape of `predictions`; both are then
            judged on the rows that have both, and the difference gets a paired interval.
        resamples: bootstrap resamples.
        seed: of the bootstrap; the same seed gives the same intervals, whatever the rows' order.

    Raises:
        SchemaError: a table is not as described; the message says which, where and how many.
        ConfigError: `resamples` is below 1.
    """
    if resamples < 1:
        raise ConfigError(f"resamples: {resamples} is too few; 1000 is usual")
    whole, parts = split_parts(predictions)
    other = None if baseline is None else split_parts(baseline, "baseline")[0]
    judged = read_judged(whole, labels, other)
    rows = [
        row
        for one in judged
        for row in metric_rows(one, resamples=resamples, generator=np.random.default_rng(seed))
    ]
    costs = None
    if parts:
        found = cost_table(whole, parts, labels, resamples=resamples, seed=seed)
        costs = _tidy(found)
    table = _tidy(pd.DataFrame(rows))
    return Evaluation(table, tuple(judged), resamples, seed, costs)


def _title(one: Judged) -> str:
    title = f"{one.name}\n{len(one.labels):,} rows"
    if one.events is not None:
        title += f", {one.events:,} event{'s' * (one.events != 1)}"
    return title


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Without class and horizon where no row has one; events are whole numbers, null or not."""
    empty = [head for head in HEADS if table[head].isna().all()]
    if table["events"].isna().any():
        table = table.astype({"events": "Int64"})
    return table.drop(columns=empty)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain Python values, None for NaN."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [
        {
            str(key): cell.item() if isinstance(cell, np.generic) else cell
            for key, cell in row.items()
        }
        for row in rows
    ]
