"""Thresholds: chosen once on patients that nothing else is judged on, then judged where they stand.

A score at or above its threshold is an alert.
"""

from __future__ import annotations

from clinical.errors import ConfigError
from clinical.evaluation.bootstrap import bootstrap, percentile_interval
from clinical.evaluation.judged import Judged, YesOrNo
from clinical.evaluation.metrics import ratio
from clinical.evaluation.predictions import read_judged
from clinical.evaluation.table import HEADS, format_value

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

Thresholds = Sequence[float] | Mapping[str, float] | Mapping[str, Mapping[str, float | None]]
"""Some for all tasks, as numbers or by name; or by task, as `choose_thresholds` gives them."""

METRICS = (
    "sensitivity",
    "specificity",
    "PPV",
    "NPV",
    "alert rate",
    "alerts per true alert",
)


def choose_thresholds(
    predictions: pd.DataFrame,
    labels: pd.DataFrame | None = None,
    *,
    rules: Mapping[str, Sequence[float]],
) -> dict[str, dict[str, float | None]]:
    """Freeze thresholds on some patients, to be judged on others.

    Args:
        predictions, labels: as for `evaluate`, of patients that play no part in judging: with a
            run of this toolkit its `calibrate` half.
        rules: kind of goal -> values: `sensitivity`, `specificity` and `ppv` are reached here by
            the highest (specificity and ppv: lowest) threshold that does, `alert_rate` is the
            largest share of scores that may alert, `risk` is the threshold itself.

    Returns:
        Task (with its class or horizon, as the evaluation names it) -> name such as
        "sensitivity 0.8" -> threshold, None where nothing reaches the goal.

    Raises:
        ConfigError: a rule is unknown, or a value is not between 0 and 1.
        SchemaError: as for `evaluate`.
    """
    check_rules(rules)
    found = {}
    for judged in read_judged(predictions, labels, None):
        seen = judged.yes_or_no(judged.scores)
        if seen is not None:
            found[judged.name] = {
                f"{rule} {value:g}": RULES[rule](Steps.of(seen), value)
                for rule, values in rules.items()
                for value in values
            }
    return found


def check_rules(rules: Mapping[str, Sequence[float]]) -> None:
    """Refuse goals that cannot be meant."""
    if unknown := [rule for rule in rules if rule not in RULES]:
        raise ConfigError(
            f"thresholds: there is no rule {', '.join(unknown)}; known are {', '.join(RULES)}"
        )
    for rule, values in rules.items():
        if wrong := [value for value in values if not 0 < value < 1]:
            raise ConfigError(f"thresholds: {rule} {wrong[0]:g} should be between 0 and 1")


@dataclass(frozen=True)
class Steps:
    """What alerting on each distinct score and all above it gives.

    Attributes:
        thresholds: [G] falling, half way to the next lower score, so that rounding decides nothing.
        true, false: [G] true and false alerts.
    """

    thresholds: Array
    true: Array
    false: Array

    @classmethod
    def of(cls, seen: YesOrNo) -> Steps:
        """Of scores with labels."""
        scores, place = np.unique(-seen.scored.scores, return_inverse=True)
        scores = -scores
        positive = seen.counts * seen.scored.labels
        true, called = (
            np.cumsum(np.bincount(place, weights=each, minlength=len(scores))).astype(np.float64)
            for each in (positive, seen.counts)
        )
        return cls((scores + np.append(scores[1:], scores[-1:])) / 2, true, called - true)

    def lowest(self, is_fine: NDArray[np.bool_]) -> float | None:
        """The lowest threshold that is fine; None if none is."""
        return float(self.thresholds[np.flatnonzero(is_fine)[-1]]) if is_fine.any() else None


def _sensitivity(steps: Steps, goal: float) -> float | None:
    if not len(steps.true) or not steps.true[-1]:
        return None
    # 0.8 of 5 is 4: what floating point makes of the share must not ask for a fifth.
    reached = steps.true >= goal * steps.true[-1] - 1e-9
    return float(steps.thresholds[np.flatnonzero(reached)[0]])


def _specificity(steps: Steps, goal: float) -> float | None:
    if not len(steps.false) or not steps.false[-1]:
        return None
    return steps.lowest(steps.false <= (1 - goal) * steps.false[-1] + 1e-9)


def _ppv(steps: Steps, goal: float) -> float | None:
    return steps.lowest(steps.true >= goal * (steps.true + steps.false) - 1e-9)


def _alert_rate(steps: Steps, goal: float) -> float | None:
    called = steps.true + steps.false
    return steps.lowest(called <= goal * called[-1] + 1e-9) if len(called) else None


def _risk(steps: Steps, goal: float) -> float | None:
    return goal


RULES: dict[str, Callable[[Steps, float], float | None]] = {
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "ppv": _ppv,
    "alert_rate": _alert_rate,
    "risk": _risk,
}
"""Kind of goal -> the threshold that reaches it."""


def by_task(given: Thresholds, judged: Sequence[Judged]) -> dict[str, dict[str, float | None]]:
    """Thresholds by task and name, whichever way they were given, each task's from the lowest up.

    Raises:
        ConfigError: a threshold is no number, or none is for a task that is judged.
    """
    names = [one.name for one in judged if one.yes_or_no(one.scores) is not None]
    named: Mapping[str, Any]
    if isinstance(given, Mapping):
        named = given
    else:
        named = {f"{value:g}" if _is_threshold(value) else "": value for value in given}
    nested = {key: dict(each) for key, each in named.items() if isinstance(each, Mapping)}
    if not nested:
        nested = {name: dict(named) for name in names}
    elif len(nested) < len(named):
        raise ConfigError("thresholds: give numbers for all tasks, or a mapping for each task")
    wrong = [v for each in nested.values() for v in each.values() if not _is_threshold(v)]
    if wrong or not any(nested.values()):
        raise ConfigError("thresholds: give numbers, in JSON {task: {name: threshold}}")
    found = {name: _rising(nested[name]) for name in names if name in nested}
    if not found:
        raise ConfigError(
            f"thresholds: they are for {', '.join(nested)}, and judged with a yes or no are "
            f"{', '.join(names) or 'no tasks'}"
        )
    return found


def threshold_rows(
    judged: Judged,
    thresholds: Mapping[str, float | None],
    *,
    resamples: int,
    generator: np.random.Generator,
) -> list[dict[str, Any]]:
    """One row a threshold and metric for one task, with intervals.

    Args:
        judged: scores and labels of a yes or no.
        thresholds: by name, None where none could be chosen.
        resamples, generator: of the bootstrap.
    """
    seen = judged.yes_or_no(judged.scores)
    assert seen is not None
    chosen = {name: value for name, value in thresholds.items() if value is not None}
    at, n_rows = np.array(list(chosen.values()), dtype=np.float64), len(judged.subjects)
    values, draws = None, None
    if n_rows and chosen:
        compute = partial(rates, seen, at)
        values = compute(np.ones((1, n_rows)))
        (draws,) = bootstrap([compute], judged.subjects, resamples=resamples, generator=generator)
    has_subjects = len(np.unique(judged.subjects)) > 1
    rows = []
    for name, threshold in thresholds.items():
        head: dict[str, Any] = {"task": judged.task, "class": judged.label_class}
        head |= {"horizon_hours": judged.horizon_hours, "at": name}
        head["threshold"] = np.nan if threshold is None else threshold
        for metric in METRICS:
            numbers = dict.fromkeys(("value", "low", "high"), np.nan)
            note = "" if threshold is not None else "no score reaches the goal"
            if values is not None and draws is not None and threshold is not None:
                place = list(chosen).index(name)
                numbers["value"] = float(values[metric][0, place])
                if np.isnan(numbers["value"]):
                    note = f"not defined ({UNDEFINED[metric]})"
                elif has_subjects:
                    interval = percentile_interval(draws[metric][:, place])
                    numbers |= {"low": interval.low, "high": interval.high}
            row = head | {"metric": metric} | numbers
            rows.append(row | {"n": n_rows, "events": judged.events, "note": note})
    return rows


UNDEFINED = {
    "sensitivity": "no positives",
    "specificity": "no negatives",
    "PPV": "no alerts",
    "NPV": "all are alerts",
    "alert rate": "no labelled scores",
    "alerts per true alert": "no true alerts",
}
"""Metric -> why it has no value."""


def rates(seen: YesOrNo, thresholds: Array, weights: Array) -> dict[str, Array]:
    """Each metric [R, T] of alerting from each of `thresholds [T]` on, under weights [R, N]."""
    alerts = seen.alerts(thresholds, weights)
    spared = alerts.negatives - alerts.false
    return {
        "sensitivity": ratio(alerts.true, alerts.positives),
        "specificity": ratio(spared, alerts.negatives),
        "PPV": ratio(alerts.true, alerts.all),
        "NPV": ratio(spared, alerts.total - alerts.all),
        "alert rate": ratio(alerts.all, alerts.total),
        "alerts per true alert": ratio(alerts.all, alerts.true),
    }


def format_thresholds(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text for people: a row a threshold, a column a metric."""
    heads = [name for name in (*HEADS, "at", "threshold") if name in table]
    rows = []
    for _, part in table.groupby(heads, sort=False, dropna=False):
        row: dict[Any, Any] = part[heads].iloc[0].to_dict()
        row["threshold"] = format_value(row["threshold"], np.nan, np.nan)
        for line in part.to_dict("records"):
            digits = 1 if line["metric"] == "alerts per true alert" else 2
            numbers = (line["value"], line["low"], line["high"])
            row[line["metric"]] = format_value(*numbers, digits=digits)
        rows.append(row)
    return pd.DataFrame(rows)


def _rising(named: Mapping[str, float | None]) -> dict[str, float | None]:
    """Files of them are in any order; what could not be chosen comes last."""
    return dict(sorted(named.items(), key=lambda item: (item[1] is None, item[1] or 0.0, item[0])))


def _is_threshold(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return value is None or (isinstance(value, int | float) and math.isfinite(value))
