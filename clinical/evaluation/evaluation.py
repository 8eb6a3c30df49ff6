"""Judge a predictions table: a table of metrics with intervals, and its pictures."""

from __future__ import annotations

from clinical.errors import ConfigError
from clinical.evaluation.metrics import Scored
from clinical.evaluation.parts import cost_table, format_costs, split_parts
from clinical.evaluation.plots import Drawn, plot_calibration, plot_pr, plot_roc
from clinical.evaluation.predictions import Judged, read_judged
from clinical.evaluation.table import format_table, format_value, metric_rows
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
SIZES = {"roc": (5.0, 5.3), "pr": (5.0, 5.3), "calibration": (5.0, 7.0)}
INTERVALS = "95 % percentile bootstrap by subject"


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What `evaluate` found; shows itself as a table in a notebook.

    Attributes:
        table: one row a task and metric: task, metric, value, low, high (95 % interval), n,
            events, note; a `class` column where classes were scored; with a baseline also
            baseline and difference (model − baseline), each with `_low` and `_high`. A value
            that is not defined is NaN, and the note says why.
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
            row |= {"n": len(one.labels), "subjects": len(np.unique(one.subjects))}
            row |= {"events": one.events, "without_score": one.without_score}
            row |= {"without_label": one.without_label}
            if one.baseline is not None:
                row["without_baseline"] = one.without_baseline
            rows.append(row)
        return _drop_empty_class(pd.DataFrame(rows))

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
            rows = self.table[self.table["task"] == one.task]
            if "class" in rows and one.label_class is not None:
                rows = rows[rows["class"] == one.label_class]
            metrics = {}
            for row in _records(rows):
                name = row.pop("metric")
                ignored = ("task", "class", "n", "events")
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

    def save_figures(self, folder: Path) -> list[Path]:
        """Write `roc.png`, `pr.png` and `calibration.png`, with the task in the name if several."""
        check_no_file(folder, what="figures", remedy="name a folder for the pictures")
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for place, one in enumerate(self.judged):
            suffix = ""
            if len(self.judged) > 1:  # the number keeps two names apart that look alike as files
                suffix = f"_{place}_{re.sub(r'[^A-Za-z0-9_.-]+', '-', one.name)}"
            for kind, plot in PLOTS.items():
                figure = Figure(figsize=SIZES[kind], layout="constrained")
                axes = plot(self._drawn(one), figure.subplots())
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
        for row in _records(self.counts):
            name = row["task"] if row.get("class") is None else f"{row['task']}/{row['class']}"
            text = f"{name}: {row['n']:,} rows of {row['subjects']:,} subjects, "
            text += f"{row['events']:,} events"
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
        if ax is None:
            import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

            _, ax = plt.subplots(figsize=SIZES[kind], layout="constrained")
            ax.set_title(_title(one))
        return PLOTS[kind](self._drawn(one), ax)

    def _pick(self, task: str | None) -> Judged:
        named = {one.name: one for one in self.judged}
        if task is None and len(named) == 1:
            return self.judged[0]
        if task not in named:
            problem = "say which" if task is None else f"there is no {task!r}"
            raise ConfigError(f"task: {problem}; choose one of {', '.join(named)}")
        return named[task]

    def _drawn(self, one: Judged) -> list[Drawn]:
        rows = self.table[self.table["task"] == one.task]
        if one.label_class is not None:
            rows = rows[rows["class"] == one.label_class]
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
    """Judge risks against what happened, with 95 % bootstrap intervals resampled by subject.

    Args:
        predictions: columns subject_id, prediction_time, task, score (a risk in 0..1), class
            where classes are scored (each is judged against the rest), and label (0 or 1)
            unless `labels` is given. Rows without a score or a label are left out and counted.
            With a column left_out, as `Predictor.leave_out` writes it, the rows where it is null
            are judged, and the others say in `Evaluation.costs` what each part is worth.
        labels: a frame in MEDS' label schema (subject_id, prediction_time, boolean_value) that
            takes the place of the column `label`; with a column task where there are several.
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
        costs = _drop_empty_class(found)
    table = _drop_empty_class(pd.DataFrame(rows))
    return Evaluation(table, tuple(judged), resamples, seed, costs)


def _title(one: Judged) -> str:
    return f"{one.name}\n{len(one.labels):,} rows, {one.events:,} event{'s' * (one.events != 1)}"


def _drop_empty_class(table: pd.DataFrame) -> pd.DataFrame:
    return table if table["class"].notna().any() else table.drop(columns="class")


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
