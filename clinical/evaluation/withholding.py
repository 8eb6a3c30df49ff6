"""What is not told since it is of few people: of an evaluation, and of a run's other facts.

A count of fewer than `smallest` people becomes None, and so does one from which such a count would
follow by a subtraction from what stands beside it. Predictions and stores hold everything, and so
does the screen of who made the run: this is about what travels, `metrics.json` and the model card.
"""

from __future__ import annotations

from clinical.evaluation.alerts import shown_alerts
from clinical.evaluation.groups import cells_of
from clinical.evaluation.judged import Judged
from clinical.evaluation.table import HEADS

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEFT_OUT = ("without_score", "without_label", "without_baseline")
COUNTS = ("n", "subjects", "events", *LEFT_OUT)
JUDGED = ("held_out", "select", "calibrate")
"""Splits that a run is judged on: the first, or where nobody of it has a label the others."""
SEVERAL = ("multiclass", "multilabel")


def shown_tasks(judged: Sequence[Judged], smallest: int) -> list[Judged]:
    """What may be shown: where one class of several is small, none is shown by itself."""
    small = {one.task for one in judged if _is_small(one, smallest)}
    return [
        one
        for one in judged
        if one.task not in small
        or (one.kind in SEVERAL and len(np.unique(one.subjects)) >= smallest)
    ]


def _is_small(judged: Judged, smallest: int) -> bool:
    everyone = np.ones(len(judged.subjects), dtype=bool)
    return cells_of([judged], smallest).is_small(everyone)


def shown_count(count: int, smallest: int) -> int | None:
    """A count, None if it is of few; nobody is not few."""
    return count if count == 0 or count >= smallest else None


def withhold_evaluation(
    content: Mapping[str, Any], judged: Sequence[Judged], smallest: int
) -> dict[str, Any]:
    """What `Evaluation.to_json` says, without figures and counts of few.

    Args:
        content: its tasks, in the order of `judged`, and its tables as records.
        judged: the rows behind them.
        smallest: number of people below which nothing is told.
    """
    shown = {_name(one) for one in shown_tasks(judged, smallest)}
    tasks = []
    for one, task in zip(judged, content["tasks"], strict=True):
        if _name(one) in shown:
            few = {key: shown_count(task[key], smallest) for key in LEFT_OUT if key in task}
            tasks.append({**task, **few})
        else:
            tasks.append({**task, **dict.fromkeys(COUNTS), "metrics": {}})
    found = {**content, "smallest": smallest, "tasks": tasks}
    for name in ("costs", "at_thresholds"):
        if name in content:
            found[name] = [row for row in content[name] if _key(row) in shown]
    if "at_thresholds" in found:
        found["at_thresholds"] = _told(found["at_thresholds"], judged, smallest)
    # Without a part fewer rows may have a score: how many fewer is nobody's business.
    for row in found.get("costs", []):
        row.update(n=None, events=None)
    return found


def _told(
    rows: Sequence[Mapping[str, Any]], judged: Sequence[Judged], smallest: int
) -> list[Mapping[str, Any]]:
    """Rows at thresholds without those of few alerts, or of few beside them."""
    kept = []
    for one in judged:
        own = [row for row in rows if _key(row) == _name(one)]
        at = {str(row["at"]): row["threshold"] for row in own if row["threshold"] is not None}
        told = shown_alerts(one, at, smallest) if at else []
        kept += [row for row in own if str(row["at"]) in told or row["threshold"] is None]
    return kept


def _name(judged: Judged) -> tuple[Any, ...]:
    return judged.task, judged.label_class, judged.horizon_hours


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(head) for head in HEADS)


def withhold_facts(
    metrics: Mapping[str, Any], fewest: Mapping[str, Mapping[str, int]], smallest: int
) -> dict[str, Any]:
    """The other facts of a run without counts of few, its evaluation being withheld already.

    Args:
        metrics: what `metrics.json` is to hold.
        fewest: group of counts -> name -> people in it, or left over, if those are fewer.
        smallest: number of people below which nothing is told.
    """
    tasks = metrics["evaluation"]["tasks"]
    hidden = {task["task"] for task in tasks if task["n"] is None}
    counts = withhold_counts(metrics["counts"], fewest, smallest)
    if any(task[key] is None for task in tasks for key in LEFT_OUT if key in task):
        # Less those judged it would tell how many were left out.
        for group in ("samples", "subjects"):
            counts[group] |= {name: None for name in counts[group] if name in JUDGED}
    return {
        **metrics,
        "counts": counts,
        "present": _present(metrics["counts"].get("modalities", {})),
        "calibration": {k: _calibration(v, smallest) for k, v in metrics["calibration"].items()},
        "members": {k: v for k, v in metrics["members"].items() if k not in hidden},
        "typicality": _typicality(metrics.get("typicality", {}), smallest),
        "relations": {k: _relation(v) for k, v in metrics["relations"].items()},
    }


def withhold_counts(
    counts: Mapping[str, Mapping[str, int]],
    fewest: Mapping[str, Mapping[str, int]],
    smallest: int,
) -> dict[str, dict[str, int | None]]:
    """Counts of a cohort, by group and name, without those of few."""
    found = {
        group: {name: shown_count(n, smallest) for name, n in each.items()}
        for group, each in counts.items()
    }
    total = sum(counts.get("samples", {}).values())
    for name, n in counts.get("neighbours", {}).items():
        if shown_count(total - n, smallest) is None:
            found["neighbours"][name] = None
    for group, each in fewest.items():
        few = {name for name, n in each.items() if shown_count(n, smallest) is None}
        found[group] |= dict.fromkeys(few)
        if group == "labels":  # the classes of a task may add up to all that are labelled
            tasks = {name.rpartition(": ")[0] for name in few}
            found[group] |= dict.fromkeys(n for n in each if n.rpartition(": ")[0] in tasks)
        else:
            found[group] |= dict.fromkeys(_left_over(counts[group], found[group], smallest))
    hidden = [name for name, n in found.get("samples", {}).items() if n is None]
    found["subjects"] = {**found.get("subjects", {}), **dict.fromkeys(hidden)}
    return found


def _left_over(
    counts: Mapping[str, int], shown: Mapping[str, int | None], smallest: int
) -> list[str]:
    """Further names to hide where those hidden are few together: the sum may be known."""
    hidden = sum(counts[name] for name, n in shown.items() if n is None)
    also = []
    for name in sorted((name for name, n in shown.items() if n), key=counts.__getitem__):
        if hidden == 0 or hidden >= smallest:
            break
        hidden += counts[name]
        also.append(name)
    return also


def _calibration(fit: Mapping[str, Any], smallest: int) -> dict[str, Any]:
    """Of classes that exclude each other no events are counted, and 0 stands for that."""
    cells = [fit["n"], *((fit["events"], fit["n"] - fit["events"]) if fit["events"] else ())]
    if all(shown_count(each, smallest) is not None for each in cells):
        return dict(fit)
    # The reason counts either outcome, or all.
    reason = re.sub(r"only [\d,]+ \w+( and [\d,]+ \w+)?", "few", fit["reason"] or "")
    return {**fit, "n": shown_count(fit["n"], smallest), "events": None, "reason": reason or None}


def _relation(figures: Mapping[str, Any]) -> dict[str, Any]:
    """A share in steps of 5 %, rounded down, and not on how many samples it was tried: either would
    tell how few had no neighbour."""
    tried = {
        task: {key: value for key, value in told.items() if key != "n"}
        for task, told in figures["tried"].items()
    }
    return {**figures, "linked": np.floor(20 * figures["linked"] + 1e-9) / 20, "tried": tried}


def _typicality(found: Mapping[str, Any], smallest: int) -> dict[str, Any]:
    """How many were atypical, unless those are few, or all others are."""
    if not found:
        return {}
    told = {key: shown_count(found[key], smallest) for key in ("calibrated_on", "judged")}
    sides = (found["atypical"], found["judged"] - found["atypical"])
    is_few = None in (shown_count(side, smallest) for side in sides)
    return {**found, **told, "atypical": None if is_few else found["atypical"]}


def _present(by_pattern: Mapping[str, int]) -> dict[str, str]:
    """Modality -> the share of samples that have it."""
    total, found = sum(by_pattern.values()), dict[str, int]()
    for pattern, count in by_pattern.items():
        for name in filter(None, pattern.split("+")):
            found[name] = found.get(name, 0) + count
    return {name: _share(100 * count / total) for name, count in found.items()}


def _share(percent: float) -> str:
    """In steps of 5 %, the ends open: a few more or less are not seen."""
    if percent > 95:
        return "over 95 %"
    return "under 5 %" if percent < 5 else f"about {5 * round(percent / 5)} %"
