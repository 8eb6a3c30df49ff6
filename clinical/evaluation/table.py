"""The table of metrics: values, intervals, differences from a baseline, and what to beware of."""

from __future__ import annotations

from clinical.evaluation.bootstrap import Interval, bootstrap, centred, percentile_interval
from clinical.evaluation.judged import Judged, Marked
from clinical.evaluation.risk_groups import NEVER_NEGATIVE, OVERSTATED

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNDEFINED = "–"
HEADS = ("task", "class", "horizon_hours")
"""What tells apart the groups of rows that are judged together."""
NO_INTERVAL = Interval(np.nan, np.nan, 0)


def metric_rows(
    judged: Judged,
    *,
    resamples: int,
    generator: np.random.Generator,
    only_main: bool = False,
    beside: str = "baseline",
) -> list[dict[str, Any]]:
    """One row a metric for one task; with a baseline, its values and the paired difference too.

    Args:
        judged: scores and labels.
        resamples, generator: of the bootstrap.
        only_main: leave out all metrics but those that say what a part of a model is worth.
        beside: what notes call the baseline.
    """
    scored = [judged.marked(judged.scores)]
    if judged.baseline is not None:
        scored.append(judged.marked(judged.baseline))
    metrics = scored[0].main if only_main else scored[0].names
    points, draws = _values(scored, judged.subjects, metrics, resamples, generator)
    has_subjects = len(np.unique(judged.subjects)) > 1
    rows = []
    for name in metrics:
        value = float(points[0][name][0])
        around_value = partial(_interval, name, has_subjects=has_subjects)
        interval = around_value(value, draws[0][name])
        notes = _notes(name, scored[0], value, interval, resamples)
        row: dict[str, Any] = {"task": judged.task, "class": judged.label_class}
        row |= {"horizon_hours": judged.horizon_hours, "metric": name}
        row |= {"value": value, "low": interval.low, "high": interval.high}
        if len(scored) > 1:
            other = float(points[1][name][0])
            around = around_value(other, draws[1][name])
            gap = around_value(value - other, draws[0][name] - draws[1][name], is_gap=True)
            row |= {"baseline": other, "baseline_low": around.low, "baseline_high": around.high}
            row |= {"difference": value - other}
            row |= {"difference_low": gap.low, "difference_high": gap.high}
            if np.isnan(other) and not np.isnan(value):
                notes.append(f"{beside} not defined ({scored[1].why_undefined(name)})")
        row |= {"n": len(judged.labels), "events": judged.events, "note": "; ".join(notes)}
        rows.append(row)
    return rows


def format_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text for people: three decimals, intervals in brackets, no NaN."""
    shown = table[[column for column in HEADS if column in table]].assign(metric=table["metric"])
    for column, title in {
        "value": "value (95 % interval)",
        "baseline": "baseline",
        "difference": "difference",
    }.items():
        if column in table:
            prefix = "" if column == "value" else f"{column}_"
            parts = zip(table[column], table[f"{prefix}low"], table[f"{prefix}high"], strict=True)
            shown[title] = [
                format_value(*numbers, signed=column == "difference") for numbers in parts
            ]
    events = table["events"].astype(object).where(table["events"].notna(), UNDEFINED)
    return shown.assign(n=table["n"], events=events, note=table["note"])


def format_value(
    value: float, low: float, high: float, *, digits: int = 3, signed: bool = False
) -> str:
    """Such as "0.842 (0.801 to 0.880)"; a dash where there is no value.

    >>> format_value(-0.05, -0.2, 0.1), format_value(1.0, float("nan"), float("nan"))
    ('−0.050 (−0.200 to 0.100)', '1.000')
    """
    if np.isnan(value):
        return UNDEFINED
    style = f"{'+' if signed else ''}z.{digits}f"  # z: no minus sign before 0.000
    text = f"{value:{style}}"
    if not np.isnan(low):
        text += f" ({low:{style}} to {high:{style}})"
    return text.replace("-", "−")


def counted(count: int | None, smallest: int) -> str:
    """A count, unless it is of few: then only that; None is one that was withheld before."""
    if count is None:
        return "withheld"
    return f"{count:,}" if count == 0 or count >= smallest else f"fewer than {smallest}"


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Without class and horizon where no row has one; events are whole numbers, null or not."""
    empty = [head for head in HEADS if table[head].isna().all()]
    if table["events"].isna().any():
        table = table.astype({"events": "Int64"})
    return table.drop(columns=empty)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain Python values, None for NaN."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [
        {
            str(key): cell.item() if isinstance(cell, np.generic) else cell
            for key, cell in row.items()
        }
        for row in rows
    ]


def _values(
    scored: list[Marked],
    subjects: NDArray[np.int64],
    metrics: Sequence[str],
    resamples: int,
    generator: np.random.Generator,
) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    """Each metric's value [1], and its values over the resamples, for each set of scores."""
    if not len(subjects):
        absent = [dict.fromkeys(metrics, np.full(1, np.nan)) for _ in scored]
        return absent, absent
    ones = np.ones((1, len(subjects)))
    draws = bootstrap(
        [partial(one.compute, metrics=metrics) for one in scored],
        subjects,
        resamples=resamples,
        generator=generator,
    )
    return [one.compute(ones, metrics) for one in scored], draws


def _interval(
    name: str, value: float, draws: Array, *, has_subjects: bool, is_gap: bool = False
) -> Interval:
    """No interval without a value, nor from one subject: each resample would be the same."""
    if np.isnan(value) or not has_subjects:
        return NO_INTERVAL
    if name in OVERSTATED:
        draws = centred(draws, value)
    if name in NEVER_NEGATIVE and not is_gap:
        draws = np.maximum(draws, 0.0)
    return percentile_interval(draws)


def _notes(
    name: str, scored: Marked, value: float, interval: Interval, resamples: int
) -> list[str]:
    if np.isnan(value):
        return [f"not defined ({scored.why_undefined(name)})"]
    notes = scored.notes(name)
    if name in OVERSTATED:
        notes.append("resamples overstate it: their interval is moved to the value")
    if interval.low == interval.high:
        notes.append("every resample gives the same value")
    if interval == NO_INTERVAL:
        notes.append("interval not defined (one subject)")
    elif np.isnan(interval.low):
        notes.append(
            f"interval not defined (no value in {interval.skipped} of {resamples} resamples)"
        )
    elif interval.skipped:
        notes.append(f"{interval.skipped} of {resamples} resamples have no value")
    return notes
