"""Exact statistics of each variable in a sample's window, from all of its events."""

from clinical.containers import SUMMARY_STATISTICS

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SLOPE = SUMMARY_STATISTICS.index("slope")

# A least-squares slope that moves the line by less than this share of the values' range is the
# rounding of a slope of zero; as a rank among train values it would be noise.
FLAT = 1e-6


@dataclass(frozen=True)
class Summaries:
    """The (sample, variable) pairs that were measured, by sample and then variable.

    Attributes:
        sample: [P] row of the sample in its shard.
        variable: [P] row of the vocabulary.
        statistics: [P, S] float32 in the units of the variable, `SUMMARY_STATISTICS` in order;
            sd over the population (0 for one value), slope per hour, last_hours before the
            prediction time.
        has_slope: [P] bool, at least two distinct times; elsewhere the slope is given as 0.
    """

    sample: NDArray[np.int64]
    variable: NDArray[np.int64]
    statistics: NDArray[np.float32]
    has_slope: NDArray[np.bool_]


def summarise(
    sample: NDArray[Any], variable: NDArray[Any], value: NDArray[Any], hours: NDArray[Any]
) -> Summaries:
    """Statistics of every variable of every sample.

    Args:
        sample: [E] row of the sample, ascending; the oldest event of a sample comes first.
        variable: [E] row of the vocabulary.
        value: [E] finite numbers in the units of the variable.
        hours: [E] before the prediction time.
    """
    key = sample.astype(np.int64) * (int(variable.max(initial=0)) + 1) + variable
    order = np.argsort(key, kind="stable")
    values, time = value[order].astype(np.float64), -hours[order].astype(np.float64)
    start = np.flatnonzero(np.diff(key[order], prepend=-1))
    count = np.diff(np.append(start, len(order)))
    last = start + count - 1
    slope, has_slope = _slopes(values, time, start, count)
    columns = {
        "mean": _means(values, start, count),
        "min": _reduce(np.minimum, values, start),
        "max": _reduce(np.maximum, values, start),
        "first": values[start],
        "last": values[last],
        "sd": np.sqrt(_means(_centred(values, start, count) ** 2, start, count)),
        "slope": slope,
        "count": count,
        "last_hours": -time[last],
    }
    table = np.stack([columns[name] for name in SUMMARY_STATISTICS], axis=1)
    rows = order[start]
    return Summaries(
        sample[rows].astype(np.int64),
        variable[rows].astype(np.int64),
        table.astype(np.float32),
        has_slope,
    )


def _reduce(function: np.ufunc, values: Floats, start: NDArray[np.int64]) -> Floats:
    reduced: Floats = function.reduceat(values, start) if len(start) else np.empty(0)
    return reduced


def _means(values: Floats, start: NDArray[np.int64], count: NDArray[np.int64]) -> Floats:
    """Means of runs; those of equal float32 values are exact, as their sums are in float64."""
    return _reduce(np.add, values, start) / count


def _centred(values: Floats, start: NDArray[np.int64], count: NDArray[np.int64]) -> Floats:
    return values - np.repeat(_means(values, start, count), count)


def _slopes(
    values: Floats, time: Floats, start: NDArray[np.int64], count: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Least-squares slopes per hour, and where there are two times to draw a line through."""
    duration = time[start + count - 1] - time[start]
    has_slope = duration > 0
    around = _centred(time, start, count)
    together = _reduce(np.add, around * _centred(values, start, count), start)
    squares = _reduce(np.add, around**2, start)
    slope = np.divide(together, squares, out=np.zeros(len(start)), where=has_slope)
    spread = _reduce(np.maximum, values, start) - _reduce(np.minimum, values, start)
    slope[np.abs(slope) * duration <= FLAT * spread] = 0
    return slope, has_slope
