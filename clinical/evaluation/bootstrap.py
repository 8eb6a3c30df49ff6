"""Percentile intervals from a bootstrap that draws subjects, not rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TAILS = (0.025, 0.975)  # of a 95 % interval
# Rows times resamples in memory at once: 8 MB an array, which also stays near the cache.
BLOCK_ELEMENTS = 2**20


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, NaN if not defined, and how many resamples gave no value."""

    low: float
    high: float
    skipped: int


def resample_weights(
    subjects: NDArray[np.int64], resamples: int, generator: np.random.Generator
) -> Iterator[Array]:
    """Blocks of weights [R, N]: how often each resample drew the subject of each row.

    Each resample draws as many subjects as there are, with replacement, and takes all the rows of
    a drawn subject. Blocks are bounded in memory; together they hold `resamples` rows.

    Args:
        subjects: [N] the subject of each row, any integers.
        resamples: number of resamples.
        generator: source of the draws.
    """
    distinct, place = np.unique(subjects, return_inverse=True)
    n_subjects = len(distinct)
    block = max(1, BLOCK_ELEMENTS // max(len(subjects), 1))
    for first in range(0, resamples, block):
        counts = np.empty((min(block, resamples - first), n_subjects))
        for row in counts:
            drawn = generator.integers(0, n_subjects, size=n_subjects)
            row[:] = np.bincount(drawn, minlength=n_subjects)
        yield np.take(counts, place, axis=1)


def bootstrap(
    computes: Sequence[Callable[[Array], Mapping[str, Array]]],
    subjects: NDArray[np.int64],
    *,
    resamples: int,
    generator: np.random.Generator,
) -> list[dict[str, Array]]:
    """Values [resamples] by metric, for each of `computes`, all under the same resamples.

    Args:
        computes: each turns weights [R, N] into values [R] by metric, NaN where there is none.
            Values of two of them may be subtracted: they are paired.
        subjects: [N] the subject of each row.
    """
    blocks: list[list[Mapping[str, Array]]] = [[] for _ in computes]
    for weights in resample_weights(subjects, resamples, generator):
        for parts, compute in zip(blocks, computes, strict=True):
            parts.append(compute(weights))
    return [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in blocks
    ]


def percentile_interval(values: Array) -> Interval:
    """The central 95 % of the values that exist; not defined if most of them don't.

    >>> percentile_interval(np.arange(41.0))
    Interval(low=1.0, high=39.0, skipped=0)
    """
    finite = values[np.isfinite(values)]
    skipped = len(values) - len(finite)
    if 2 * skipped >= len(values):
        return Interval(np.nan, np.nan, skipped)
    low, high = np.quantile(finite, TAILS)
    return Interval(float(low), float(high), skipped)


def centred(draws: Array, value: float) -> Array:
    """Draws moved so that their mean is the value: of a metric that resampling itself raises."""
    finite = draws[np.isfinite(draws)]
    return draws - (finite.mean() - value) if len(finite) else draws
