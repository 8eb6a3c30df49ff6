"""What each part of a model is worth: metrics without it, beside those of the whole."""

from __future__ import annotations

from clinical.errors import ConfigError, SchemaError
from clinical.evaluation.plots import BLUE, GREY
from clinical.evaluation.predictions import read_judged
from clinical.evaluation.table import HEADS, UNDEFINED, format_value, metric_rows

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

LEFT_OUT = "left_out"
WITHOUT_COSTS = "costs: the predictions have no column left_out; Predictor.leave_out makes some"


def split_parts(
    table: pd.DataFrame, name: str = "predictions"
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The rows of the whole model, and those without each part, as `left_out` tells them apart.

    A table whose rows all lack the same part is one of scores like any other.

    Raises:
        SchemaError: there are several parts and nothing to compare them with.
    """
    if LEFT_OUT not in table:
        return table, {}
    is_whole = table[LEFT_OUT].isna()
    less = table[~is_whole]
    names = less[LEFT_OUT].astype(str)
    parts = {part: less[names == part] for part in dict.fromkeys(names)}
    if is_whole.any():
        return table[is_whole], parts
    if len(parts) > 1:
        raise SchemaError(
            f"{name}: left_out names {len(parts)} parts ({', '.join(parts)}), and in no row it is "
            "null, which stands for the whole model; add those rows, or keep one part's"
        )
    return table, {}


def cost_table(
    whole: pd.DataFrame,
    parts: Mapping[str, pd.DataFrame],
    labels: pd.DataFrame | None,
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """One row a task, part and metric; every part meets the same resamples of the bootstrap.

    Returns:
        task, class, horizon_hours, left_out, metric, whole, without, difference (whole − without,
        paired) with `_low` and `_high`, n, events, note.
    """
    rows: list[dict[str, Any]] = []
    for part, less in parts.items():
        name = f"rows without {part}"
        for judged in read_judged(whole, labels, less, beside=name):
            generator = np.random.default_rng(seed)
            found = metric_rows(
                judged, resamples=resamples, generator=generator, only_main=True, beside=name
            )
            rows += [_as_cost(row, part) for row in found]
    table = pd.DataFrame(rows)
    # Tasks together, each with its parts in their order.
    return table.sort_values("task", key=_place, kind="stable", ignore_index=True)


def format_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """The table as text for people, as `format_table` writes metrics."""
    heads = [column for column in (*HEADS, LEFT_OUT, "metric") if column in costs]
    shown = costs[heads].copy()
    for column in ("whole", "without"):
        shown[column] = [format_value(value, np.nan, np.nan) for value in costs[column]]
    intervals = zip(
        costs["difference"], costs["difference_low"], costs["difference_high"], strict=True
    )
    shown["difference (95 % interval)"] = [format_value(*one, signed=True) for one in intervals]
    events = costs["events"].astype(object).where(costs["events"].notna(), UNDEFINED)
    return shown.assign(n=costs["n"], events=events, note=costs["note"])


def plot_costs(costs: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """What each part is worth in one metric, with its interval: what is lost without it.

    Args:
        costs: of one task, as `cost_table` gives them.
        metric: one of theirs.
        ax: to draw on.

    Raises:
        ConfigError: there is no such metric.
    """
    rows = costs[costs["metric"] == metric]
    if not len(rows):
        known = ", ".join(dict.fromkeys(costs["metric"]))
        raise ConfigError(f"metric: there is no {metric!r}; choose one of {known}")
    places = -np.arange(len(rows))
    gaps = np.abs(rows[["difference_low", "difference_high"]].sub(rows["difference"], axis=0)).T
    ax.axvline(0, color=GREY, linewidth=1, linestyle=":")
    ax.errorbar(
        rows["difference"], places, xerr=gaps, color=BLUE, fmt="o", capsize=3, linewidth=1.5
    )
    ax.set_yticks(places, [f"without {part}" for part in rows[LEFT_OUT]])
    ax.set_ylim(-len(rows) + 0.4, 0.6)
    ax.set_xlabel(f"{metric}: whole − without (95 % interval)")
    ax.grid(axis="x", alpha=0.25)
    return ax


def _as_cost(row: Mapping[str, Any], part: str) -> dict[str, Any]:
    first = {head: row[head] for head in HEADS} | {LEFT_OUT: part, "metric": row["metric"]}
    last = {
        key: row[key]
        for key in ("difference", "difference_low", "difference_high", "n", "events", "note")
    }
    return first | {"whole": row["value"], "without": row["baseline"]} | last


def _place(tasks: pd.Series) -> pd.Series:
    """Each task's place in the order of first appearance."""
    return pd.Series(pd.factorize(tasks)[0], index=tasks.index)
