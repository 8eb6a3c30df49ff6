"""The pictures of a report, none of which shows a value of a single patient."""

from __future__ import annotations

from clinical.evaluation import page
from clinical.evaluation.evaluation import Evaluation
from clinical.evaluation.figures import SIZES, drawn_of, figures_of, title_of
from clinical.evaluation.judged import Judged
from clinical.evaluation.parts import plot_costs
from clinical.evaluation.plots import plot_calibration, plot_value_groups
from clinical.evaluation.subgroups import HEIGHT, Subgroups, lines_of

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

CAPTIONS = {
    "roc": "Sensitivity against 1 − specificity over all thresholds.",
    "pr": "Positive predictive value against sensitivity; the dotted line is the event rate.",
    "calibration": "Observed frequency in groups of equal size by predicted risk, put together "
    "until each has enough people with and without the event.",
    "net_benefit": "Decision curve: what acting on the risk is worth, beside acting on everybody "
    "or nobody. Bands are 95 % intervals.",
    "values": "True values in groups of equal size by predicted value: mean and middle half.",
}


def pictures_of(evaluation: Evaluation, judged: Judged, smallest: int) -> list[str]:
    """Those of one task, as HTML; groups have `smallest` people, or of each outcome."""
    found = []
    for kind in figures_of(judged):
        figure = Figure(figsize=SIZES[kind], layout="constrained")
        ax = figure.subplots()
        _draw(evaluation, judged, kind, ax, smallest)
        ax.set_title(title_of(judged))
        alt = f"{kind.replace('_', ' ')} of {judged.name}; its figures are in the tables"
        found.append(page.picture(figure, alt, CAPTIONS[kind]))
    return found


def _draw(evaluation: Evaluation, judged: Judged, kind: str, ax: Axes, smallest: int) -> None:
    if kind == "calibration":
        plot_calibration(drawn_of(judged, evaluation.rows_of(judged)), ax, smallest=smallest)
    elif kind == "values":
        people = judged.subjects
        plot_value_groups(judged.scores, judged.labels, ax, subjects=people, smallest=smallest)
    else:
        evaluation.draw(kind, judged, ax)


def picture_of_costs(costs: pd.DataFrame, judged: Judged) -> str:
    """What is lost in the first metric without each part, as HTML."""
    metric = str(costs["metric"].iloc[0])
    figure = Figure(figsize=(7.0, 1.2 + HEIGHT * costs["left_out"].nunique()), layout="constrained")
    plot_costs(costs, metric, figure.subplots()).set_title(title_of(judged))
    alt = f"{metric} of {judged.name} without each part; its figures are in the table"
    caption = f"What each part changes of {metric}; at the dotted line it changes nothing."
    return page.picture(figure, alt, caption)


def pictures_of_groups(groups: Subgroups, judged: Judged) -> str:
    """The first metric and calibration by group or period, as HTML; nothing if none is shown."""
    if groups.shown.empty:
        return ""
    metrics = [name for name in groups.metrics if name in ("AUROC", "observed / expected")]
    found = []
    for metric in metrics or groups.metrics[:1]:
        is_trend = "period" in set(groups.table["column"])
        size = (7.0, 3.6)
        if not is_trend:
            size = (8.0, 1.2 + HEIGHT * len(lines_of(groups.rows(metric, None))))
        figure = Figure(figsize=size, layout="constrained")
        plot = groups.plot_trend if is_trend else groups.plot
        plot(figure.subplots(), metric=metric)
        caption = f"{metric} with 95 % intervals; the dotted line is that of everybody."
        found.append(page.picture(figure, f"{metric} of {judged.name} by group", caption))
    return "".join(found)
