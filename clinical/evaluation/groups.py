"""How a model does in groups of patients: each with its size and intervals, small ones hidden."""

from __future__ import annotations

from clinical.errors import ConfigError, SchemaError
from clinical.evaluation.alerts import shown_everywhere
from clinical.evaluation.bootstrap import bootstrap, percentile_interval
from clinical.evaluation.gathering import SAMPLE
from clinical.evaluation.judged import Judged, Marked, YesOrNo
from clinical.evaluation.suppression import Cells, hidden_groups
from clinical.evaluation.thresholds import UNDEFINED, rates

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNKNOWN = "unknown"
ALL = "all"
PERIODS = {"week": "W", "month": "M", "quarter": "Q", "year": "Y"}
PERIOD = "period"
NOT_SHOWN = "not shown"
SMALLEST = 10
BINARY_METRICS = (
    "AUROC",
    "AUPRC (average precision)",
    "scaled Brier",
    "observed / expected",
    "calibration slope",
)
RATES = ("sensitivity", "PPV", "alert rate")
"""At each threshold."""


@dataclass(frozen=True)
class Grouping:
    """One way to group the judged rows.

    Attributes:
        name: of the column.
        levels: [G] names of the groups, in the order of their category or sorted.
        place: [N] the group of each row.
    """

    name: str
    levels: tuple[str, ...]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, name: str, values: pd.Series) -> Grouping:
        """Of a column [N]; null is a group of its own, the last one."""
        is_ordered = isinstance(values.dtype, pd.CategoricalDtype)
        known = values.cat.categories if is_ordered else sorted(values.dropna().unique(), key=str)
        texts = [str(each) for each in known]
        names = values.astype(object).map(str).where(values.notna().to_numpy(), UNKNOWN)
        there = set(names)
        levels = tuple(text for text in dict.fromkeys([*texts, UNKNOWN]) if text in there)
        number = {level: place for place, level in enumerate(levels)}
        return cls(name, levels, np.asarray(names.map(number), dtype=np.int64))

    def rows(self, level: str) -> NDArray[np.bool_]:
        """[N] which rows are in a group."""
        return np.asarray(self.place == self.levels.index(level))

    def of_rows(self, places: NDArray[np.int64]) -> Grouping:
        """The same of some rows."""
        return replace(self, place=self.place[places])


def read_groups(groups: pd.DataFrame, rows: pd.DataFrame) -> list[Grouping]:
    """The groups of some samples, one entry a column.

    Raises:
        SchemaError: there is no subject_id or no column to group by, or a row is there twice.
    """
    on = [name for name in SAMPLE if name in groups]
    columns = [str(name) for name in groups if name not in SAMPLE]
    if "subject_id" not in on or not columns:
        raise SchemaError(
            f"groups: found {', '.join(map(str, groups))}; give subject_id, prediction_time (left "
            "out where a group is for life) and a column for each way to group"
        )
    if repeats := int(groups.duplicated(on).sum()):
        raise SchemaError(f"groups: {repeats} rows repeat {', '.join(on)}; keep one of each")
    if "prediction_time" in on:
        times = groups["prediction_time"].to_numpy(dtype="datetime64[us]")
        groups = groups.assign(prediction_time=times)
    joined = rows.merge(groups, on=on, how="left", validate="many_to_one")
    if len(joined) and joined[columns].isna().all(axis=None):
        raise SchemaError(
            "groups: none of the judged rows has a group; subject_id or prediction_time are others"
        )
    return [Grouping.of(name, joined[name]) for name in columns]


def samples_of(judged: Sequence[Judged]) -> pd.DataFrame:
    """`subject_id, prediction_time` of everything that was judged, once each."""
    return pd.DataFrame(
        {
            "subject_id": np.concatenate([one.subjects for one in judged]),
            "prediction_time": np.concatenate([one.times for one in judged]),
        }
    ).drop_duplicates(ignore_index=True)


def periods_of(judged: Sequence[Judged], every: str) -> pd.DataFrame:
    """The judged samples by the week, month, quarter or year of their prediction time.

    Raises:
        ConfigError: there is no such period.
    """
    if every not in PERIODS:
        raise ConfigError(f"every: there is no {every!r}; known are {', '.join(PERIODS)}")
    samples = samples_of(judged)
    periods = samples["prediction_time"].dt.to_period(PERIODS[every])
    is_week = every == "week"  # named by the day on which it begins
    return samples.assign(**{PERIOD: (periods.dt.start_time if is_week else periods).astype(str)})


def group_table(
    judged: Sequence[Judged],
    groups: pd.DataFrame,
    thresholds: Mapping[str, Mapping[str, float]],
    *,
    smallest: int,
    resamples: int,
    seed: int,
    alone: str | None = None,
) -> pd.DataFrame:
    """Metrics by group; see `Subgroups.table`.

    Args:
        judged: of an evaluation.
        groups: a row a sample, or a subject.
        thresholds: of tasks with a yes or no, by name.
        smallest: number of people below which nothing is shown.
        resamples, seed: of the bootstrap, which draws subjects of all groups together.
        alone: a column that is shown by itself elsewhere; see `hidden_groups`.
    """
    rows: list[dict[str, Any]] = []
    samples = samples_of(judged)
    groupings = read_groups(groups, samples) if len(samples) else []
    small = [cells_of([one], smallest).is_small(np.ones(len(one.subjects), bool)) for one in judged]
    told = [one for one, is_small in zip(judged, small, strict=True) if not is_small]
    hidden = _hidden(told, samples, groupings, smallest, alone)
    for one, is_small in zip(judged, small, strict=True):
        if not len(one.subjects):
            continue
        measure = partial(_measured, one, resamples=resamples, seed=seed)
        everyone = np.ones(len(one.subjects), dtype=bool)
        at = shown_everywhere(one, [everyone], thresholds.get(one.name, {}), smallest)
        if not is_small:
            rows += measure(ALL, {ALL: everyone}, thresholds=at)
        for grouping in (each.of_rows(_places(one, samples)) for each in groupings):
            there = [level for level in grouping.levels if grouping.rows(level).any()]
            levels = [
                level for level in there if not is_small and (grouping.name, level) not in hidden
            ]
            parts = {level: grouping.rows(level) for level in levels}
            # Of all groups of a column or of none: one would be the whole less the others.
            sets = [
                *parts.values(),
                np.logical_and.reduce([everyone, *(~p for p in parts.values())]),
            ]
            in_each = shown_everywhere(one, sets, at, smallest)
            rows += measure(grouping.name, parts, thresholds=in_each)
            if n_hidden := len(there) - len(levels):
                rows.append(_hidden_row(one, grouping.name, n_hidden, smallest))
    # What is not shown has no counts: whole numbers or null.
    return pd.DataFrame(rows).astype({"n": "Int64", "subjects": "Int64"})


def cells_of(judged: Sequence[Judged], smallest: int) -> Cells:
    """What is counted of the rows of some tasks as a whole."""
    samples = samples_of(judged)
    subjects = samples["subject_id"].to_numpy()
    return Cells([], _outcomes(judged, samples), subjects, smallest)


def _hidden(
    judged: Sequence[Judged],
    samples: pd.DataFrame,
    groupings: Sequence[Grouping],
    smallest: int,
    alone: str | None,
) -> set[tuple[str, str]]:
    """(column, level) of the groups that are shown for no task."""
    if not judged:
        return set()
    names = [grouping.name for grouping in groupings]
    place = names.index(alone) if alone in names else None
    cells = Cells(
        [grouping.place for grouping in groupings],
        _outcomes(judged, samples),
        samples["subject_id"].to_numpy(),
        smallest,
    )
    found = hidden_groups(cells, alone=place)
    return {(groupings[c].name, groupings[c].levels[group]) for c, group in found}


def _outcomes(judged: Sequence[Judged], samples: pd.DataFrame) -> list[NDArray[np.int64]]:
    """By task: [N] the outcome of each sample, -1 where it was not judged; each only once."""
    found: dict[bytes, NDArray[np.int64]] = {}
    for one in judged:
        outcome = np.full(len(samples), -1, dtype=np.int64)
        outcome[_places(one, samples)] = _outcome(one)
        found[outcome.tobytes()] = outcome
    return list(found.values())


def _places(one: Judged, samples: pd.DataFrame) -> NDArray[np.int64]:
    """[n] where the rows of a task stand among the samples."""
    index = pd.MultiIndex.from_frame(samples)
    rows = pd.MultiIndex.from_arrays([one.subjects, one.times])
    return np.asarray(index.get_indexer(rows), dtype=np.int64)


def _outcome(judged: Judged) -> NDArray[np.int64]:
    """[N] what must not be told of few: yes or no, observed or not, or the class."""
    if judged.observed is not None:
        return judged.observed.astype(np.int64)
    if judged.kind == "multiclass":
        return np.asarray(judged.labels.argmax(axis=1), dtype=np.int64)
    if judged.kind == "binary":
        return judged.labels.astype(np.int64)
    return np.zeros(len(judged.subjects), dtype=np.int64)


def _measured(
    judged: Judged,
    column: str,
    levels: Mapping[str, NDArray[np.bool_]],
    *,
    thresholds: Mapping[str, float],
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table for some groups, and how each differs from all that are not in it."""
    parts = {level: Part.of(judged, rows, thresholds) for level, rows in levels.items()}
    rests = {level: Part.of(judged, ~rows, thresholds) for level, rows in levels.items()}
    rests = {level: part for level, part in rests.items() if part.rows.any()}
    computes = [part.compute for part in (*parts.values(), *rests.values())]
    ones = np.ones((1, len(judged.subjects)))
    points = [compute(ones) for compute in computes]
    generator = np.random.default_rng(seed)
    draws = bootstrap(computes, judged.subjects, resamples=resamples, generator=generator)
    found = []
    for place, (level, part) in enumerate(parts.items()):
        other = len(parts) + list(rests).index(level) if level in rests else None
        for metric in part.metrics:
            value = float(points[place][metric][0])
            row = _head(judged, column, level) | {"metric": metric, "value": value}
            row |= _around("", value, draws[place][metric])
            gap, drawn = np.nan, np.full(1, np.nan)
            if other is not None:
                gap = value - float(points[other][metric][0])
                drawn = draws[place][metric] - draws[other][metric]
            row |= {"difference": gap} | _around("difference_", gap, drawn)
            note = "" if np.isfinite(value) else f"not defined ({part.why_undefined(metric)})"
            found.append(row | part.counts | {"note": note})
    return found


@dataclass(frozen=True)
class Part:
    """Some rows of a task, ready to be measured under weights of all of them.

    Attributes:
        rows: [N] which.
        judged: scores and labels of these n alone.
        marked: the same with the metrics of their kind.
        thresholds: by name.
    """

    rows: NDArray[np.bool_]
    judged: Judged
    marked: Marked
    thresholds: Mapping[str, float]

    @classmethod
    def of(cls, judged: Judged, rows: NDArray[np.bool_], thresholds: Mapping[str, float]) -> Part:
        """Of the rows of a task."""
        part = judged.part(rows)
        return cls(rows, part, part.marked(part.scores), thresholds)

    @property
    def metrics(self) -> list[str]:
        """Names of what is measured."""
        named = BINARY_METRICS if self.judged.kind == "binary" else self.marked.main
        return [*named, *(f"{rate} at {name}" for name in self.thresholds for rate in RATES)]

    @property
    def counts(self) -> dict[str, int | None]:
        """Rows, people and events."""
        people = len(np.unique(self.judged.subjects))
        return {"n": len(self.judged.subjects), "subjects": people, "events": self.judged.events}

    @cached_property
    def _seen(self) -> YesOrNo | None:
        return self.judged.yes_or_no(self.judged.scores) if self.thresholds else None

    def compute(self, weights: Array) -> dict[str, Array]:
        """Each metric [R] under weights [R, N]."""
        own = weights[:, self.rows]
        with np.errstate(invalid="ignore", divide="ignore"):  # nobody of it may be drawn
            found = self.marked.compute(own, self.metrics)
        if self._seen is not None:
            at = rates(self._seen, np.array(list(self.thresholds.values())), own)
            for place, name in enumerate(self.thresholds):
                found |= {f"{rate} at {name}": at[rate][:, place] for rate in RATES}
        return found

    def why_undefined(self, metric: str) -> str:
        """Why a metric has no value."""
        if " at " in metric and metric.partition(" at ")[0] in RATES:
            return UNDEFINED[metric.partition(" at ")[0]]
        return self.marked.why_undefined(metric)


def _around(prefix: str, value: float, draws: Array) -> dict[str, float]:
    interval = percentile_interval(draws) if np.isfinite(value) else None
    low, high = (np.nan, np.nan) if interval is None else (interval.low, interval.high)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _head(judged: Judged, column: str, group: str) -> dict[str, Any]:
    head: dict[str, Any] = {"task": judged.task, "class": judged.label_class}
    head |= {"horizon_hours": judged.horizon_hours}
    return head | {"column": column, "group": group}


def _hidden_row(judged: Judged, column: str, n_hidden: int, smallest: int) -> dict[str, Any]:
    numbers = ("value", "low", "high", "difference", "difference_low", "difference_high")
    row = _head(judged, column, NOT_SHOWN) | {"metric": None} | dict.fromkeys(numbers, np.nan)
    note = (
        f"{n_hidden} group{'s' * (n_hidden > 1)}: fewer than {smallest} people, or with one of the "
        "outcomes, or another such group could be computed from it"
    )
    return row | {"n": None, "subjects": None, "events": None, "note": note}
