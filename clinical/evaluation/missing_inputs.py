"""How scores do when inputs are missing, as text for the card and the report alike.

Forced: a part is taken from everybody, as if it had never been recorded. And as it happened: groups
of patients by what they have.
"""

from __future__ import annotations

from clinical.evaluation.groups import ALL, NOT_SHOWN
from clinical.evaluation.parts import LEFT_OUT
from clinical.evaluation.table import UNDEFINED, format_value

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

Row = Mapping[str, Any]

HOW_TO_READ = (
    "Any subset of the inputs gives a score. First a part is taken from everybody, as if it had "
    "never been recorded: the difference, whole − without, is what is lost, with a paired "
    "interval. Then patients by what they have, with nothing taken away. These are different "
    "patients, so a lower figure may come of who they are, and not of what is missing."
)
NONE_LEFT_OUT = "How scores do without each part was not measured."
MOST_METRICS = 3


def task_name(row: Row) -> str:
    """Of the task, class and horizon that a row is about."""
    name = row["task"] if row.get("class") is None else f"{row['task']}/{row['class']}"
    hours = row.get("horizon_hours")
    return str(name) if hours is None else f"{name} by {hours:g} h"


def forced(costs: Sequence[Row]) -> pd.DataFrame:
    """A line a part taken away, with each metric without it and the difference.

    Args:
        costs: of one task, as `Evaluation.to_json` gives them.
    """
    lines: dict[str, dict[str, str]] = {}
    metrics = list(dict.fromkeys(row["metric"] for row in costs))[:MOST_METRICS]
    for row in costs:
        if row["metric"] not in metrics:
            continue
        part, metric = str(row[LEFT_OUT]), _short(row["metric"])
        lines.setdefault("nothing", {LEFT_OUT: "nothing"}).setdefault(metric, _text(row, "whole"))
        line = lines.setdefault(part, {LEFT_OUT: part})
        line[metric] = _text(row, "without")
        line[f"{metric} difference"] = _text(row, "difference", signed=True)
    columns = [name for m in map(_short, metrics) for name in (m, f"{m} difference")]
    table = pd.DataFrame(list(lines.values()), columns=[LEFT_OUT, *columns]).fillna(UNDEFINED)
    return table.rename(columns={LEFT_OUT: "left out"})


def as_present(rows: Sequence[Row]) -> pd.DataFrame:
    """A line a pattern of present inputs, everybody first, with its size and metrics.

    Args:
        rows: of one task, as `Subgroups.to_json` gives them.
    """
    metrics = list(dict.fromkeys(row["metric"] for row in rows if row["metric"]))[:MOST_METRICS]
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["group"] == NOT_SHOWN:
            continue
        group = "everybody" if row["column"] == ALL else str(row["group"])
        line = lines.setdefault(group, {"inputs present": group})
        line |= {"rows": _count(row["n"]), "events": _count(row["events"])}
        if row["metric"] in metrics:
            line[_short(row["metric"])] = _text(row, "value")
    names = ["inputs present", "rows", "events", *map(_short, metrics)]
    return pd.DataFrame(list(lines.values()), columns=names).fillna(UNDEFINED)


def not_shown(rows: Sequence[Row]) -> str:
    """What is said of the groups that are not shown; nothing where all are."""
    hidden = [row for row in rows if row["group"] == NOT_SHOWN]
    if not hidden:
        return ""
    each = ", ".join(f"{row['note'].partition(': ')[0]} by {row['column']}" for row in hidden)
    return f"Not shown: {each}: {hidden[0]['note'].partition(': ')[2]}."


def _short(metric: str) -> str:
    """Without what is said of it in brackets elsewhere."""
    return metric.partition(" (")[0]


def _count(number: float | None) -> str:
    return UNDEFINED if number is None else f"{int(number):,}"


def _text(row: Row, key: str, *, signed: bool = False) -> str:
    low, high = {"value": ("low", "high")}.get(key, (f"{key}_low", f"{key}_high"))
    numbers = (np.nan if row.get(name) is None else row[name] for name in (key, low, high))
    return format_value(*numbers, signed=signed)
