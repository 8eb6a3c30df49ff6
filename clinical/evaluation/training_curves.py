"""Pictures of a training: losses and AUROC by epoch."""

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


def plot_training_curves(figures: pd.DataFrame, ax: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw each stage's loss (train, tuning) and AUROC (tuning) by epoch, a panel each.

    Args:
        figures: columns stage, epoch (how many are done), name, value, as the training writes them;
            drawn are `train/loss`, `tuning/loss`, `tuning/auroc` and `tuning/auroc/<task>`.
            The epoch with the highest `tuning/choice` is marked as the best.
        ax: one axes for each panel (`panels(figures)` names them); made here if absent.

    Returns:
        The axes, in the order of the panels.
    """
    named = panels(figures)
    if ax is None:
        import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

        _, made = plt.subplots(
            1, len(named), figsize=(4.2 * len(named), 3.4), layout="constrained", squeeze=False
        )
        ax = list(made[0])
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
    figure = Figure(figsize=(4.2 * len(named), 3.4), layout="constrained")
    axes = figure.subplots(1, len(named), squeeze=False)
    plot_training_curves(figures, list(axes[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def panels(figures: pd.DataFrame) -> list[tuple[str, str]]:
    """(stage, "loss" or "auroc") of each panel, pretraining before fine-tuning."""
    if missing := [column for column in COLUMNS if column not in figures.columns]:
        raise SchemaError(
            f"training curves: column {', '.join(missing)} is missing; give {', '.join(COLUMNS)}"
        )
    stages = list(dict.fromkeys([*TITLES, *figures["stage"]]))
    found = [
        (str(stage), quantity)
        for stage in stages
        for quantity in ("loss", "auroc")
        if len(_lines(figures[figures["stage"] == stage], quantity))
    ]
    if not found:
        raise SchemaError(
            "training curves: no row is named train/loss, tuning/loss or tuning/auroc"
        )
    return found


def _lines(rows: pd.DataFrame, quantity: str) -> dict[str, pd.DataFrame]:
    """Legend -> rows by epoch, without the epochs that have no finite value."""
    rows = rows[np.isfinite(rows["value"].to_numpy(dtype=np.float64))].sort_values("epoch")
    if quantity == "loss":
        names = {"train": "train/loss", "tuning": "tuning/loss"}
    else:
        found = [name for name in dict.fromkeys(rows["name"]) if _is_auroc(str(name))]
        names = {"/".join(str(name).split("/")[2:]) or "tuning": str(name) for name in found}
    lines = {legend: rows[rows["name"] == name] for legend, name in names.items()}
    return {legend: line for legend, line in lines.items() if len(line)}


def _is_auroc(name: str) -> bool:
    return name == "tuning/auroc" or name.startswith("tuning/auroc/")


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
    choice = rows[(rows["name"] == "tuning/choice") & rows["value"].notna()]
    if len(choice):
        best = int(choice["epoch"].iloc[int(choice["value"].argmax())])
        label = f"best: epoch {best}" if best else "best: the start"
        ax.axvline(best, color=GREY, linewidth=1, linestyle=":", label=label)
    text = {"loss": "loss", "auroc": "AUROC"}[quantity]
    ax.set(xlabel="Epoch", title=f"{TITLES.get(stage, stage)}: {text}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.25)
    ax.legend(fontsize="small")
