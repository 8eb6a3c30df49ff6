"""Which pictures a task has, and how each is drawn from what was judged."""

from __future__ import annotations

from clinical.config import TaskKind
from clinical.errors import ConfigError
from clinical.evaluation.judged import Judged
from clinical.evaluation.metrics import Scored
from clinical.evaluation.net_benefit import decision_curve
from clinical.evaluation.parts import WITHOUT_COSTS, plot_costs
from clinical.evaluation.plots import (
    Drawn,
    plot_calibration,
    plot_net_benefit,
    plot_pr,
    plot_roc,
    plot_values,
)
from clinical.evaluation.table import format_value
from clinical.places import check_no_file

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PLOTS: dict[str, Callable[[Sequence[Drawn], Axes], Axes]] = {
    "roc": plot_roc,
    "pr": plot_pr,
    "calibration": plot_calibration,
}
SIZES = {
    "roc": (5.0, 5.3),
    "pr": (5.0, 5.3),
    "calibration": (5.0, 7.0),
    "net_benefit": (6.0, 4.8),
    "values": (5.0, 5.3),
}
FIGURES: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("roc", "pr", "calibration", "net_benefit"),
    "regression": ("values",),
    "time_to_event": ("net_benefit",),
}
"""Kind of what is judged -> its pictures."""


def figures_of(judged: Judged) -> tuple[str, ...]:
    """The pictures of one task, class or horizon."""
    return () if judged.horizons else FIGURES.get(judged.kind, ())


def draw(
    kind: str, judged: Judged, rows: pd.DataFrame, ax: Axes, *, resamples: int, seed: int
) -> Axes:
    """Draw one picture.

    Args:
        kind: of picture.
        judged: scores and labels.
        rows: of the table of metrics that are about them, for the legend.
        ax: to draw on.
        resamples, seed: of the bootstrap behind a band.

    Raises:
        ConfigError: this kind of task has no such picture.
    """
    check_figure(kind, judged)
    if kind == "values":
        return plot_values(judged.scores, judged.labels, ax)
    if kind == "net_benefit":
        return plot_net_benefit(decision_curve(judged, None, resamples=resamples, seed=seed), ax)
    return PLOTS[kind](drawn_of(judged, rows), ax)


def check_figure(kind: str, judged: Judged) -> None:
    """Refuse a picture that this kind of task does not have.

    Raises:
        ConfigError: which it has.
    """
    if kind not in (own := figures_of(judged)):
        remedy = f"plot_{' or plot_'.join(own)}" if own else "there is none for it"
        raise ConfigError(f"task: {judged.name} is {judged.kind}, which has no such plot; {remedy}")


def title_of(judged: Judged) -> str:
    """The task, and how many rows and events are behind a picture."""
    title = f"{judged.name}\n{len(judged.labels):,} rows"
    if judged.events is not None:
        title += f", {judged.events:,} event{'s' * (judged.events != 1)}"
    return title


def drawn_of(judged: Judged, rows: pd.DataFrame) -> list[Drawn]:
    """Model and baseline of a yes-or-no task, with the figures of their legends."""
    sets = [("model", judged.scores, ("value", "low", "high"))]
    if judged.baseline is not None:
        sets.append(("baseline", judged.baseline, ("baseline", "baseline_low", "baseline_high")))
    return [
        Drawn(
            name=name,
            scored=Scored.of(scores, judged.labels),
            subjects=judged.subjects,
            figures={
                str(row["metric"]): format_value(*(row[column] for column in columns), digits=2)
                for row in rows.to_dict("records")
            },
        )
        for name, scores, columns in sets
    ]


class Pictures:
    """The pictures of an evaluation, which has these attributes and says what they are."""

    table: pd.DataFrame
    judged: tuple[Judged, ...]
    resamples: int
    seed: int
    costs: pd.DataFrame | None

    def plot_roc(self, ax: Axes | None = None, *, task: str | None = None) -> Axes:
        """ROC curve of a task; `task` may be left out where there is only one."""
        return self._plot("roc", ax, task)

    def plot_pr(self, ax: Axes | None = None, *, task: str | None = None) -> Axes:
        """Precision-recall curve of a task; its stepwise area is the average precision."""
        return self._plot("pr", ax, task)

    def plot_calibration(self, ax: Axes | None = None, *, task: str | None = None) -> Axes:
        """Observed frequency against predicted risk of a task, with the scores' histogram."""
        return self._plot("calibration", ax, task)

    def plot_net_benefit(self, ax: Axes | None = None, *, task: str | None = None) -> Axes:
        """Decision curve of a task: net benefit by the risk from which on one acts."""
        return self._plot("net_benefit", ax, task)

    def plot_values(self, ax: Axes | None = None, *, task: str | None = None) -> Axes:
        """True against predicted values of a regression task."""
        return self._plot("values", ax, task)

    def plot_costs(
        self, ax: Axes | None = None, *, metric: str = "AUROC", task: str | None = None
    ) -> Axes:
        """What each part of the model is worth: what forced removal of it loses in a metric.

        Raises:
            ConfigError: the predictions have no column left_out; no such task or metric.
        """
        if self.costs is None:
            raise ConfigError(WITHOUT_COSTS)
        one = self._pick(task)
        rows = self.rows_of(one, self.costs)
        if ax is None:
            import matplotlib.pyplot as plt

            n_parts = rows["left_out"].nunique()
            _, ax = plt.subplots(figsize=(6.0, 1.4 + 0.35 * n_parts), layout="constrained")
            ax.set_title(title_of(one))
        return plot_costs(rows, metric, ax)

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
            for kind in figures_of(one):
                figure = Figure(figsize=SIZES[kind], layout="constrained")
                axes = self.draw(kind, one, figure.subplots())
                axes.set_title(title_of(one))
                path = folder / f"{kind}{suffix}.png"
                figure.savefig(path, dpi=150)
                written.append(path)
        return written

    def _plot(self, kind: str, ax: Axes | None, task: str | None) -> Axes:
        one = self._pick(task)
        check_figure(kind, one)
        if ax is None:
            import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

            _, ax = plt.subplots(figsize=SIZES[kind], layout="constrained")
            ax.set_title(title_of(one))
        return self.draw(kind, one, ax)

    def draw(self, kind: str, one: Judged, ax: Axes) -> Axes:
        """One picture of one task; `figures_of` names those there are."""
        rows = self.rows_of(one)
        return draw(kind, one, rows, ax, resamples=self.resamples, seed=self.seed)

    def rows_of(self, one: Judged, table: pd.DataFrame | None = None) -> pd.DataFrame:
        """Of a table, by default that of the metrics."""
        table = self.table if table is None else table
        rows = table[table["task"] == one.task]
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
