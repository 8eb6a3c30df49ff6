"""Pictures of a training: losses, of each objective too, weights and AUROC by epoch."""

from __future__ import annotations

from clinical.errors import ConfigError, SchemaError
from clinical.evaluation.plots import BLUE, GREY, VERMILION

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLUMNS = ["stage", "epoch", "name", "value"]
TITLES = {"pretrain": "Pretraining", "finetune": "Fine-tuning"}
# Okabe and Ito's others, for a second task and more.
TASK_COLORS = (VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
AXES = {
    "loss": "loss",
    "probe": "AUROC of a linear probe",
    "auroc": "AUROC",
    "weight": "weights of objectives",
}
"""Quantity -> title. The loss of each objective has a panel of its own after these."""
OBJECTIVE = "objective/"
ERROR = "/error"
ACROSS = 4
PANEL = (4.2, 3.4)
"""Inches."""


def plot_training_curves(figures: pd.DataFrame, ax: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw each stage's losses, AUROC and so on by epoch, a panel each.

    Args:
        figures: columns stage, epoch (how many are done), name, value, as the training writes them;
            drawn are `train/loss` and `tuning/loss`, `tuning/auroc` and `tuning/auroc/<task>`,
            `probe/<task>` (in a band as wide as `probe/<task>/error` says, its standard error),
            `train/weight/<objective>`, and where there are several objectives
            `train/objective/<name>` and `tuning/objective/<name>`.
            The epoch with the highest `tuning/choice` is marked as the best.
        ax: one axes for each panel (`panels(figures)` names them); made here if absent.

    Returns:
        The axes, in the order of the panels.
    """
    named = panels(figures)
    if ax is None:
        import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

        shape = _shape(len(named))
        made = plt.figure(figsize=_size(shape), layout="constrained")
        ax = _axes(made, len(named))
    if len(ax) != len(named):
        raise ConfigError(
            f"ax: {len(ax)} axes for {len(named)} panels "
            f"({', '.join(' '.join(panel) for panel in named)}); give one for each"
        )
    for (stage, quantity), one in zip(named, ax, strict=True):
        _draw(figures[figures["stage"] == stage], stage, quantity, one)
    return list(ax)


def save_training_curves(figures: pd.DataFrame, path: Path) -> Path:
    """Write the picture of `plot_training_curves` to a file, whose suffix says the format."""
    named = panels(figures)
    figure = Figure(figsize=_size(_shape(len(named))), layout="constrained")
    plot_training_curves(figures, _axes(figure, len(named)))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _shape(n_panels: int) -> tuple[int, int]:
    """Rows and columns."""
    return -(-n_panels // ACROSS), min(n_panels, ACROSS)


def _size(shape: tuple[int, int]) -> tuple[float, float]:
    return PANEL[0] * shape[1], PANEL[1] * shape[0]


def _axes(figure: Figure, n_panels: int) -> list[Axes]:
    """One for each panel, row by row."""
    rows, columns = _shape(n_panels)
    return [figure.add_subplot(rows, columns, place + 1) for place in range(n_panels)]


def panels(figures: pd.DataFrame) -> list[tuple[str, str]]:
    """(stage, quantity) of each panel, pretraining before fine-tuning.

    A quantity is "loss", "probe", "auroc", "weight" or "objective/<name>".
    """
    if missing := [column for column in COLUMNS if column not in figures.columns]:
        raise SchemaError(
            f"training curves: column {', '.join(missing)} is missing; give {', '.join(COLUMNS)}"
        )
    stages = list(dict.fromkeys([*TITLES, *figures["stage"]]))
    found = [
        (str(stage), quantity)
        for stage in stages
        for quantity in (*AXES, *_objectives(figures[figures["stage"] == stage]))
        if len(_lines(figures[figures["stage"] == stage], quantity))
    ]
    if not found:
        raise SchemaError(
            "training curves: no row is named train/loss, tuning/loss or tuning/auroc"
        )
    return found


def _objectives(rows: pd.DataFrame) -> list[str]:
    """Those with a panel; the loss of a single one is the stage's."""
    parts = [str(name).partition(f"/{OBJECTIVE}") for name in rows["name"]]
    found = list(dict.fromkeys(f"{OBJECTIVE}{name}" for _, is_one, name in parts if is_one))
    return found if len(found) > 1 else []


def _lines(rows: pd.DataFrame, quantity: str) -> dict[str, pd.DataFrame]:
    """Legend -> rows by epoch, without the epochs that have no finite value."""
    rows = rows[np.isfinite(rows["value"].to_numpy(dtype=np.float64))].sort_values("epoch")
    found = {
        legend: rows[rows["name"] == name]
        for legend, name in _names(list(dict.fromkeys(map(str, rows["name"]))), quantity).items()
    }
    return {legend: line for legend, line in found.items() if len(line)}


def _names(names: Sequence[str], quantity: str) -> dict[str, str]:
    """Legend -> the name of its rows."""
    if quantity == "loss" or quantity.startswith(OBJECTIVE):
        return {split: f"{split}/{quantity}" for split in ("train", "tuning")}
    if quantity == "auroc":
        found = [n for n in names if n == "tuning/auroc" or n.startswith("tuning/auroc/")]
        return {name.removeprefix("tuning/auroc").lstrip("/") or "tuning": name for name in found}
    start = {"probe": "probe/", "weight": "train/weight/"}[quantity]
    found = [n for n in names if n.startswith(start) and not n.endswith(ERROR)]
    return {name.removeprefix(start): name for name in found}


def _draw(rows: pd.DataFrame, stage: str, quantity: str, ax: Axes) -> None:
    looks = {"train": (BLUE, "--", "o"), "tuning": (VERMILION, "-", "s")}
    styles = ("-", "--", "-.", ":")
    for place, (legend, line) in enumerate(_lines(rows, quantity).items()):
        task_look = (TASK_COLORS[place % len(TASK_COLORS)], styles[place % 4], "s")
        color, style, marker = looks.get(legend, task_look)
        ax.plot(
            line["epoch"],
            line["value"],
            color=color,
            linestyle=style,
            marker=marker,
            markersize=3.5,
            linewidth=1.6,
            label=legend,
        )
        errors = rows[rows["name"] == f"{line['name'].iloc[0]}{ERROR}"].set_index("epoch")["value"]
        if len(errors):
            around = line["epoch"].map(errors)  # of an AUROC
            low = (line["value"] - around).clip(0, 1)
            high = (line["value"] + around).clip(0, 1)
            ax.fill_between(line["epoch"], low, high, color=color, alpha=0.15, linewidth=0)
    choice = rows[(rows["name"] == "tuning/choice") & rows["value"].notna()]
    if len(choice):
        best = int(choice["epoch"].iloc[int(choice["value"].argmax())])
        label = f"best: epoch {best}" if best else "best: the start"
        label = "_" if quantity.startswith(OBJECTIVE) else label  # no room, and known
        ax.axvline(best, color=GREY, linewidth=1, linestyle=":", label=label)
    text = AXES.get(quantity, quantity.removeprefix(OBJECTIVE))
    ax.set(xlabel="Epoch", title=f"{TITLES.get(stage, stage)}: {text}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.25)
    if quantity == "weight":  # many lines: the legend stands above them
        ax.set_ylim(0, 1.6 * ax.get_ylim()[1])
    columns = 2 if quantity == "weight" else 1
    ax.legend(fontsize="small", ncols=columns, loc="upper left" if columns == 2 else "best")
