"""Which pictures a task has, and how each is drawn from what was judged."""

from __future__ import annotations

from clinical.config import TaskKind
from clinical.errors import ConfigError
from clinical.evaluation.judged import Judged
from clinical.evaluation.metrics import Scored
from clinical.evaluation.net_benefit import decision_curve
from clinical.evaluation.plots import (
    Drawn,
    plot_calibration,
    plot_net_benefit,
    plot_pr,
    plot_roc,
    plot_values,
)
from clinical.evaluation.table import format_value

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes

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
    return PLOTS[kind](_drawn(judged, rows), ax)


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


def _drawn(judged: Judged, rows: pd.DataFrame) -> list[Drawn]:
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
