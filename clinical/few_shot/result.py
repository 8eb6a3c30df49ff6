"""What a learning curve found: tables, a picture, and how both are shown."""

from clinical.errors import ConfigError
from clinical.evaluation.plots import BLUE, GREY, VERMILION
from clinical.evaluation.showing import table_html
from clinical.evaluation.table import format_value
from clinical.few_shot.draws import Size
from clinical.few_shot.judging import METRICS, Values, difference_table, mean_table
from clinical.places import replacing

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's, told apart in grey too by marker and line style.
LOOKS = ((BLUE, "o", "-"), (VERMILION, "s", "--"), ("#009E73", "^", "-."), ("#CC79A7", "D", ":"))

BESIDE = 1.06
"""Of the places of two lines at one size, the ratio."""


@dataclass(frozen=True, repr=False)
class LearningCurve:
    """How good each line is with how many labels; shows itself as a table in a notebook.

    Attributes:
        table: a row a line, size and draw: `line`, `positives` (of train, and as many of tuning) or
            `share`, `draw`, `labels` and `positives_seen` in all, `auroc` and `auprc` with `_low`
            and `_high`, 95 % over held-out subjects.
        resampled: line and size -> metric -> [1 + resamples] mean over its draws: as it is, then
            under each resample of subjects and draws.
        skipped: size -> why it could not be drawn.
        task: whose labels.
        n_held_out: samples that each draw is judged on.
    """

    table: pd.DataFrame
    resampled: Mapping[tuple[str, Size], Values]
    skipped: dict[str, str]
    task: str
    n_held_out: int

    @cached_property
    def means(self) -> pd.DataFrame:
        """A row a line and size, over its draws; intervals over subjects and draws."""
        return mean_table(self.resampled)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """A row a size and `other` line: what the first `line` is above it, paired."""
        return difference_table(self.resampled)

    @property
    def n_draws(self) -> int:
        """Of each size, but of that of all labels."""
        return int(self.table["draw"].max()) + 1

    @property
    def size_column(self) -> str:
        """`positives` or `share`."""
        return "share" if "share" in self.table else "positives"

    def plot(self, ax: Axes | None = None, *, metric: str = "AUROC") -> Axes:
        """Each line's mean by the labels that were seen, with its interval, and every draw.

        Raises:
            ConfigError: there is no such metric.
        """
        if metric not in METRICS:
            known = ", ".join(METRICS)
            raise ConfigError(f"metric: there is no {metric!r}; choose one of {known}")
        if ax is None:
            import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

            _, ax = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
        x, column, scale = self.size_column, metric.lower(), 100 if "share" in self.table else 1
        lines = list(self.means.groupby("line", sort=False))
        for number, (line, rows) in enumerate(lines):
            color, marker, style = LOOKS[number % len(LOOKS)]
            # Beside each other, or the intervals would hide one another.
            beside = scale * BESIDE ** (number - (len(lines) - 1) / 2)
            middle, every = rows[column], self.table[self.table["line"] == line]
            ends = [middle - rows[f"{column}_low"], rows[f"{column}_high"] - middle]
            ax.errorbar(
                beside * rows[x], middle, ends, color=color, fmt="none", capsize=2, linewidth=1
            )
            ax.plot(
                beside * rows[x],
                middle,
                color=color,
                marker=marker,
                markersize=5,
                linestyle=style,
                label=line,
            )
            ax.scatter(beside * every[x], every[column], s=8, color=color, alpha=0.4, linewidths=0)
        ticks = sorted({scale * size for size in self.means[x]})
        ax.set_xscale("log")
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        if metric == "AUROC":
            ax.axhline(0.5, color=GREY, linewidth=1, linestyle=":")
        of_what = "labels seen, %" if scale > 1 else "positives seen of train (as many negatives)"
        ax.set(xlabel=of_what, ylabel=metric)
        ax.grid(alpha=0.25)
        return ax

    def display_table(self) -> pd.DataFrame:
        """Means, and differences in AUROC, as text for a screen."""
        shown = self.means[[self.size_column, "line"]].copy()
        if self.size_column == "share":
            shown["share"] = [f"{100 * share:g} %" for share in shown["share"]]
        for metric in METRICS:
            shown[metric] = _texts(self.means, metric)
        if self.differences.empty:
            return shown
        first, keys = self.differences["line"].iloc[0], [self.size_column, "line"]
        beside = self.differences.drop(columns="line").rename(columns={"other": "line"})
        gaps = self.means[keys].merge(beside, on=keys, how="left")
        texts = _texts(gaps, "AUROC", is_signed=True)
        is_first = gaps["auroc"].isna()
        shown[f"{first} − it"] = [
            "" if own else text for own, text in zip(is_first, texts, strict=True)
        ]
        return shown

    def save(self, folder: Path) -> list[Path]:
        """Write curve.csv (every draw), means.csv, differences.csv and curve.png."""
        tables = {"curve": self.table, "means": self.means, "differences": self.differences}
        paths = []
        for name, frame in tables.items():
            paths.append(folder / f"{name}.csv")
            with replacing(paths[-1]) as draft:
                frame.to_csv(draft, index=False)
        figure = Figure(figsize=(10, 4), layout="constrained")
        for ax, metric in zip(figure.subplots(1, 2), METRICS, strict=True):
            self.plot(ax, metric=metric)
        named = figure.axes[0].get_legend_handles_labels()
        figure.legend(*named, loc="outside lower center", ncols=len(named[1]), fontsize="small")
        figure.suptitle(
            f"{self.task}: means of draws on {self.n_held_out:,} held-out samples, 95 % intervals",
            fontsize="medium",
        )
        paths.append(folder / "curve.png")
        with replacing(paths[-1]) as draft:
            figure.savefig(draft, dpi=150, format="png")
        return paths

    def _repr_html_(self) -> str:
        return table_html(self.display_table())

    def __repr__(self) -> str:
        return self.display_table().to_string(index=False)


def _texts(rows: pd.DataFrame, metric: str, *, is_signed: bool = False) -> list[str]:
    names = [f"{metric.lower()}{end}" for end in ("", "_low", "_high")]
    parts = zip(*(rows[name] for name in names), strict=True)
    return [format_value(*numbers, signed=is_signed) for numbers in parts]
