"""ROC, precision-recall, calibration and decision curves, readable in print and in grey."""

from __future__ import annotations

from clinical.evaluation.metrics import Ranking, Scored
from clinical.evaluation.risk_groups import RiskGroups
from clinical.evaluation.table import UNDEFINED

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Okabe and Ito's colours, told apart by colour-blind readers; line style and marker tell them
# apart in grey too. The first look is the model's, the second the baseline's.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#6E6E6E"
LOOKS = (
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": VERMILION, "linestyle": "--", "marker": "s"},
)
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Drawn:
    """One set of scores in a picture.

    Attributes:
        name: who scored, for the legend.
        scored: the scores and labels [N].
        subjects: [N] whose row it is.
        figures: metric -> text such as "0.84 (0.80 to 0.88)", for the legend.
    """

    name: str
    scored: Scored
    subjects: NDArray[np.int64]
    figures: dict[str, str]


@dataclass(frozen=True)
class Bins:
    """Observed frequency in groups of similar scores, each [bins]."""

    predicted: Array
    observed: Array
    low: Array
    high: Array


def plot_roc(drawn: Sequence[Drawn], ax: Axes) -> Axes:
    """Sensitivity against 1 - specificity over all thresholds."""
    _square(ax, "1 − specificity (false positive rate)", "Sensitivity (true positive rate)")
    if _says_undefined(drawn, ax, "ROC curve"):
        return ax
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance, AUROC 0.5")
    for one, look in zip(drawn, LOOKS, strict=False):
        ranking = Ranking.of(one.scored, np.ones((1, len(one.scored.labels))))
        true, false = ranking.true_positives[0], ranking.false_positives[0]
        ax.plot(
            np.append(0, false / false[-1]),
            np.append(0, true / true[-1]),
            color=look["color"],
            linestyle=look["linestyle"],
            linewidth=2,
            label=f"{one.name}, AUROC {one.figures['AUROC']}",
        )
    _legend(ax, "lower right")
    return ax


def plot_pr(drawn: Sequence[Drawn], ax: Axes) -> Axes:
    """Precision against sensitivity; the area under its steps is the average precision."""
    _square(ax, "Sensitivity (recall)", "Positive predictive value (precision)")
    if _says_undefined(drawn, ax, "precision–recall curve"):
        return ax
    rate = float(drawn[0].scored.labels.mean())
    ax.axhline(rate, color=GREY, linewidth=1, linestyle=":", label=f"chance, AUPRC {rate:.2f}")
    for one, look in zip(drawn, LOOKS, strict=False):
        ranking = Ranking.of(one.scored, np.ones((1, len(one.scored.labels))))
        true, false = ranking.true_positives[0], ranking.false_positives[0]
        found = true > 0  # before the first event there is no area, only a line up from zero
        precision = true[found] / (true + false)[found]
        ax.plot(
            np.append(0, true[found] / true[-1]),
            np.append(precision[0], precision),
            drawstyle="steps-pre",
            color=look["color"],
            linestyle=look["linestyle"],
            linewidth=2,
            label=f"{one.name}, AUPRC {one.figures['AUPRC (average precision)']}",
        )
    # Curves that reach 0.6 half way through need the upper right for themselves.
    is_high = np.interp(0.5, true / true[-1], true / (true + false)) > 0.6
    _legend(ax, "lower left" if is_high else "upper right")
    return ax


def plot_calibration(drawn: Sequence[Drawn], ax: Axes, *, smallest: int | None = None) -> Axes:
    """Observed frequency against predicted risk in groups of equal size, scores shown below.

    Bars are 95 % Wilson intervals that count a subject once within a group, however many rows
    they have there. Below zero stands the histogram of the scores, the baseline's upside down.
    The legend has room of its own above the bars.

    With `smallest`, groups are merged until each has as many people with and without the event,
    and there is no histogram, whose bars may be of one patient.
    """
    ax.set(xlabel="Predicted risk", ylabel="Observed frequency (95 % interval)")
    if _says_undefined(drawn, ax, "calibration curve", one_class=False):
        return ax
    bins = [bin_frequencies(one.scored, one.subjects, smallest) for one in drawn]
    reach = max(
        max(float(one.scored.scores.max()), float(part.high.max()))
        for one, part in zip(drawn, bins, strict=True)
    )
    limit = min(1.0, float(np.ceil(reach * 20) / 20))
    ax.plot([0, limit], [0, limit], color=GREY, linewidth=1, linestyle=":", label="ideal")
    for one, part, look in zip(drawn, bins, LOOKS, strict=False):
        ax.errorbar(
            part.predicted,
            part.observed,
            yerr=np.stack([part.observed - part.low, part.high - part.observed]),
            color=look["color"],
            linestyle=look["linestyle"],
            marker=look["marker"],
            markersize=5,
            linewidth=1.5,
            elinewidth=1,
            capsize=2,
            label=_calibration_legend(one),
        )
    depth = _draw_scores(drawn, ax, limit) if smallest is None else 0.02 * limit
    ax.set(xlim=(-0.02 * limit, 1.02 * limit), ylim=(-depth, 1.02 * limit))
    ticks = [
        tick
        for tick in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(0, limit)
        if 0 <= tick <= limit + 1e-9
    ]
    ax.set(xticks=ticks, yticks=ticks)
    ax.grid(alpha=0.25)
    _make_room(ax, _legend(ax, "upper left"))
    return ax


def plot_net_benefit(curve: pd.DataFrame, ax: Axes) -> Axes:
    """Net benefit by the risk from which on one acts, beside acting on everybody or nobody.

    Args:
        curve: as `decision_curve` gives it.
        ax: to draw on; what acting on everybody does far below 0 is cut off.
    """
    ax.set(xlabel="Risk from which on one acts", ylabel="Net benefit (true alerts a patient)")
    if curve["model"].isna().all():
        _say_undefined(ax, "net benefit", "no labelled scores")
        return ax
    ax.axhline(0, color="black", linewidth=1, label="act on nobody")
    ax.plot(
        curve["risk"],
        curve["act_on_all"],
        color=GREY,
        linewidth=1.5,
        linestyle=":",
        label="act on everybody",
    )
    for name, look in zip(("model", "baseline"), LOOKS, strict=True):
        if name in curve:
            low, high = curve[f"{name}_low"], curve[f"{name}_high"]
            ax.plot(
                curve["risk"],
                curve[name],
                color=look["color"],
                linestyle=look["linestyle"],
                linewidth=2,
                label=name,
            )
            ax.fill_between(curve["risk"], low, high, color=look["color"], alpha=0.15, linewidth=0)
    names = [name for name in ("model", "baseline") if name in curve]
    top = max(float(curve[[f"{name}_high" for name in names]].max().max()), 0.01)
    ax.set(xlim=(0, float(curve["risk"].max())), ylim=(-0.25 * top, 1.1 * top))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(alpha=0.25)
    _legend(ax, "upper right")
    return ax


def plot_values(scores: Array, labels: Array, ax: Axes) -> Axes:
    """True against predicted values, both axes alike."""
    ax.set(xlabel="Predicted value", ylabel="True value")
    if not len(labels):
        return ax
    ends = (min(scores.min(), labels.min()), max(scores.max(), labels.max()))
    ax.plot(ends, ends, color=GREY, linewidth=1, linestyle=":", label="ideal")
    ax.plot(scores, labels, linestyle="", marker="o", markersize=3, alpha=0.5, color=BLUE)
    ax.grid(alpha=0.25)
    _legend(ax, "upper left")
    return ax


def plot_value_groups(
    scores: Array, labels: Array, ax: Axes, *, subjects: NDArray[np.int64], smallest: int
) -> Axes:
    """True against predicted values in groups of similar scores: mean, and middle half.

    Groups are merged until each has `smallest` people.
    """
    ax.set(xlabel="Predicted value", ylabel="True value (mean, middle half)")
    everyone = np.ones(len(labels), dtype=bool)
    parts = RiskGroups.of(scores, labels).merged([everyone], subjects, smallest)
    if not len(labels):
        return ax
    predicted, true = (np.array([each[rows].mean() for rows in parts]) for each in (scores, labels))
    halves = np.array([np.quantile(labels[rows], [0.25, 0.75]) for rows in parts]).T
    ax.plot(predicted, predicted, color=GREY, linewidth=1, linestyle=":", label="ideal")
    ax.vlines(predicted, *halves, color=BLUE, linewidth=1.5)
    ax.plot(predicted, true, color=BLUE, marker="o", linewidth=1.5, label="model")
    ax.grid(alpha=0.25)
    _legend(ax, "upper left")
    return ax


def bin_frequencies(
    scored: Scored, subjects: NDArray[np.int64], smallest: int | None = None
) -> Bins:
    """The groups of the ECE, with Wilson's intervals; merged to have `smallest` of each outcome."""
    scores, labels, parts = scored.scores, scored.labels, scored.groups.parts
    if smallest is not None:
        parts = scored.groups.merged([labels == 0, labels == 1], subjects, smallest)
    observed = np.array([labels[rows].mean() for rows in parts])
    counted = np.array([len(np.unique(subjects[rows])) for rows in parts], dtype=np.float64)
    low, high = wilson_interval(observed, counted)
    return Bins(np.array([scores[rows].mean() for rows in parts]), observed, low, high)


def wilson_interval(rate: Array, n: Array) -> tuple[Array, Array]:
    """Wilson's 95 % interval of a proportion (Wilson 1927), never outside 0 to 1."""
    centre = (rate + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 * np.sqrt(rate * (1 - rate) / n + Z_95**2 / (4 * n**2)) / (1 + Z_95**2 / n)
    # At 0 and 1 the bound is the rate itself; rounding must not put it on the other side.
    return np.minimum(centre - half, rate).clip(0, 1), np.maximum(centre + half, rate).clip(0, 1)


def _calibration_legend(one: Drawn) -> str:
    lines = [one.name]
    for word in ("slope", "intercept"):
        figure = one.figures[f"calibration {word}"]
        lines.append(f"  {word} {'not defined' if figure == UNDEFINED else figure}")
    return "\n".join(lines)


def _draw_scores(drawn: Sequence[Drawn], ax: Axes, limit: float) -> float:
    """Draw the histogram below zero and return how far down it reaches."""
    height = 0.13 * limit
    line = -0.04 * limit - height
    n_bins = int(np.clip(len(drawn[0].scored.scores) // 5, 10, 40))
    edges = np.linspace(0, limit, n_bins + 1)
    counts = [np.histogram(one.scored.scores, bins=edges)[0] for one in drawn]
    unit = height / max(int(count.max()) for count in counts)
    for sign, count, look in zip((1, -1), counts, LOOKS, strict=False):
        ax.stairs(line + sign * unit * count, edges, baseline=line, fill=True, color=look["color"])
    ax.plot([0, limit], [line, line], color="black", linewidth=0.6)
    foot = line - 0.02 * limit - (unit * float(counts[1].max()) if len(counts) > 1 else 0.0)
    ax.text(limit, foot, "rows by predicted risk", ha="right", va="top", fontsize="small")
    return 0.06 * limit - foot


def _square(ax: Axes, x_label: str, y_label: str) -> None:
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x_label, ylabel=y_label)
    ax.set_aspect("equal")
    ax.grid(alpha=0.25)


def _legend(
    ax: Axes, place: Literal["lower right", "upper right", "lower left", "upper left"]
) -> Legend:
    return ax.legend(loc=place, fontsize="small", framealpha=0.9)


def _make_room(ax: Axes, legend: Legend) -> None:
    """Raise the upper limit until what is drawn ends below a legend at the top."""
    # Bars may stand anywhere, and "best" looks at lines and patches, not at them.
    share = min(1.04 * legend.get_window_extent().height / ax.bbox.height + 0.02, 0.6)
    low, high = ax.get_ylim()
    ax.set_ylim(low, low + (high - low) / (1 - share))


def _says_undefined(drawn: Sequence[Drawn], ax: Axes, what: str, *, one_class: bool = True) -> bool:
    """Whether the picture can't be drawn; the axes then say why."""
    labels = drawn[0].scored.labels
    if not len(labels):
        why = "no labelled scores"
    elif one_class and labels.min() == labels.max():
        why = "no negatives" if labels[0] else "no positives"
    else:
        return False
    _say_undefined(ax, what, why)
    return True


def _say_undefined(ax: Axes, what: str, why: str) -> None:
    ax.text(
        0.5,
        0.5,
        f"{what} not defined\n({why})",
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize="large",
    )
