"""Several models on the same patients: each against one of them."""

from __future__ import annotations

from clinical.errors import ConfigError
from clinical.evaluation.delong import delong_row
from clinical.evaluation.judging import evaluate
from clinical.evaluation.plots import BLUE, GREY
from clinical.evaluation.showing import table_html
from clinical.evaluation.table import HEADS, UNDEFINED, format_value, tidy

import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

P_VALUES = (
    "Intervals: paired bootstrap by subject. p: two-sided, of the difference in AUROC by DeLong's "
    "test, clustered where subjects have several rows; not adjusted for the number of comparisons."
)


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found; shows itself as a table in a notebook.

    Attributes:
        table: one row a model, task and metric: model, task, metric, value, low, high, reference
            (its value), difference (model - reference) with `difference_low` and
            `difference_high` from a paired bootstrap, p_value (of AUROC, by DeLong), n, events,
            note; `class` and `horizon_hours` where there are some. Rows that only one of the two
            has scored are left out: n says how many both have.
        reference: name of the model that the others are compared with.
    """

    table: pd.DataFrame
    reference: str

    def display_table(self) -> pd.DataFrame:
        """The table as text for a screen."""
        heads = [name for name in ("model", *HEADS, "metric") if name in self.table]
        shown = self.table[heads].copy()
        columns = {
            "value (95 % interval)": ("value", "low", "high"),
            f"{self.reference} (reference)": ("reference", None, None),
            "difference": ("difference", "difference_low", "difference_high"),
        }
        rows = self.table.assign(none=np.nan)
        for title, names in columns.items():
            parts = zip(*(rows[name or "none"] for name in names), strict=True)
            is_signed = title == "difference"
            shown[title] = [format_value(*numbers, signed=is_signed) for numbers in parts]
        return shown.assign(p=[_p_text(p) for p in self.table["p_value"]], n=self.table["n"])

    def plot(
        self, ax: Axes | None = None, *, metric: str = "AUROC", task: str | None = None
    ) -> Axes:
        """Each model's difference from the reference in one metric, with its interval.

        Raises:
            ConfigError: there is no such metric or task, or several tasks and none is named.
        """
        rows = self._rows(metric, task)
        if ax is None:
            import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

            size = (6.0, 1.6 + 0.4 * len(rows))
            _, ax = plt.subplots(figsize=size, layout="constrained")
        places = np.arange(len(rows))[::-1]
        gaps = np.abs(rows[["difference_low", "difference_high"]].sub(rows["difference"], axis=0))
        ax.axvline(0, color=GREY, linewidth=1, linestyle=":")
        ax.errorbar(
            rows["difference"], places, xerr=gaps.T, color=BLUE, fmt="o", capsize=3, linewidth=1.5
        )
        ax.set_yticks(places, list(rows["model"]))
        ax.set(ylim=(-0.6, len(rows) - 0.4), title=str(rows["task"].iloc[0]))
        ax.set_xlabel(f"{metric}: difference from {self.reference} (95 % interval)")
        ax.grid(axis="x", alpha=0.25)
        return ax

    def _rows(self, metric: str, task: str | None) -> pd.DataFrame:
        rows = self.table[self.table["metric"] == metric]
        if not len(rows):
            known = ", ".join(dict.fromkeys(self.table["metric"]))
            raise ConfigError(f"metric: there is no {metric!r}; choose one of {known}")
        heads = [name for name in HEADS if name in rows]
        named = rows[heads].apply(
            lambda row: "/".join(str(each) for each in row if pd.notna(each)), axis=1
        )
        tasks = list(dict.fromkeys(named))
        if task is None and len(tasks) == 1:
            return rows
        if task not in tasks:
            problem = "say which" if task is None else f"there is no {task!r}"
            raise ConfigError(f"task: {problem}; choose one of {', '.join(tasks)}")
        return rows[named == task].assign(task=task)

    def _repr_html_(self) -> str:
        return f"{table_html(self.display_table())}<p>{html.escape(P_VALUES)}</p>"

    def __repr__(self) -> str:
        return self.display_table().to_string(index=False)


def compare(
    models: Mapping[str, pd.DataFrame],
    labels: pd.DataFrame | None = None,
    *,
    reference: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare models on the same patients, each with one of them.

    Args:
        models: name -> predictions, as for `evaluate`; at least two.
        labels: as for `evaluate`; without it those in the predictions.
        reference: name of the model to compare with, by default the last.
        resamples, seed: of the paired bootstrap, which draws subjects.

    Raises:
        ConfigError: there are fewer than two models, or the reference is none of them.
        SchemaError: as for `evaluate`.
    """
    names = list(models)
    if len(names) < 2:
        raise ConfigError(f"models: {len(names)} given; a comparison needs two or more")
    reference = names[-1] if reference is None else reference
    if reference not in models:
        raise ConfigError(f"reference: there is no {reference!r}; known are {', '.join(names)}")
    parts = []
    for name in names:
        if name == reference:
            continue
        found = evaluate(
            models[name], labels, baseline=models[reference], resamples=resamples, seed=seed
        )
        tests = [row for one in found.judged if (row := delong_row(one)) is not None]
        known = {(row["task"], row["class"]): row["p_value"] for row in tests}
        rows = found.table.reindex(columns=[*dict.fromkeys([*HEADS, *found.table])])
        keys = zip(rows["task"], rows["class"].astype(object), rows["metric"], strict=True)
        p_values = [
            known.get((task, None if pd.isna(label_class) else label_class), np.nan)
            if metric == "AUROC"
            else np.nan
            for task, label_class, metric in keys
        ]
        renamed = rows.rename(columns={"baseline": "reference"}).assign(p_value=p_values)
        renamed.insert(0, "model", name)
        parts.append(renamed.drop(columns=["baseline_low", "baseline_high"]))
    table = pd.concat(parts, ignore_index=True)
    last = ["p_value", "n", "events", "note"]
    return Comparison(tidy(table[[*table.columns.drop(last), *last]]), reference)


def _p_text(p: float) -> str:
    if np.isnan(p):
        return UNDEFINED
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
