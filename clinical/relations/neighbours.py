"""Exact neighbours: the closest keys, and the latest contemporaries.

Both give the same answer for a sample alone and among others: what matrix products leave in the
last digits, which depends on the shape of a block, is rounded away before anything is compared.
Among many references, `index.py` finds the closest keys instead, in the same order.
"""

from clinical.relations.keys import Edges

import numpy as np
from numpy.typing import NDArray

GRID = 1e-6
"""Distances are whole multiples of it; references as close as that are ordered by their row."""

_BLOCK = 250_000  # entries of a distance matrix held at once: 2 MB, which caches hold
_FEWEST = 32  # queries at once: each block reads all references

FARTHEST = 2**31 - 1
"""The largest multiple of the grid; all that is farther counts as equally far."""

NEVER = np.iinfo(np.int64).max
"""Comes after everything that `ordered` makes."""

Whole = NDArray[np.int64]
Floats = NDArray[np.float64]


def nearest(
    query: Floats,
    reference: Floats,
    *,
    query_subject: Whole,
    reference_subject: Whole,
    reference_row: Whole,
    k: int,
) -> tuple[Whole, Floats]:
    """The k nearest references by Euclidean distance, exactly, those of other subjects only.

    Args:
        query: [N, D] float64.
        reference: [M, D] float64.
        query_subject: [N].
        reference_subject: [M].
        reference_row: [M], at least 0, below 2**31, what is returned; breaks ties.
        k: K.

    Returns:
        Rows [N, K] (-1 = none) and distances [N, K], ascending; infinite where there is none.
    """
    rows = np.full((len(query), k), -1)
    distance = np.full((len(query), k), np.inf)
    width = min(k, len(reference))
    if not width:
        return rows, distance
    step = max(_FEWEST, _BLOCK // len(reference))
    squares = np.square(reference).sum(1)
    for start in range(0, len(query), step):
        block = slice(start, start + step)
        product = query[block] @ reference.T
        gap = np.square(query[block]).sum(1)[:, None] + squares - 2 * product
        order = ordered(gap, reference_row)
        order[query_subject[block, None] == reference_subject] = NEVER
        best = np.sort(np.partition(order, width - 1, axis=1)[:, :width], axis=1)
        rows[block, :width], distance[block, :width] = told_apart(best)
    return rows, distance


def ordered(square: Floats, row: Whole) -> Whole:
    """Squared distance, on the grid, and row in one whole number: ties are decided exactly."""
    # Squares first: near 0 the root would blow up what cancellation left of them.
    grid = np.sqrt(np.round(np.maximum(square, 0), 9)) / GRID
    return (np.minimum(np.round(grid), FARTHEST).astype(np.int64) << 32) | row


def told_apart(order: Whole) -> tuple[Whole, Floats]:
    """Rows and distances of what `ordered` made; -1 and infinite where it is `NEVER`."""
    found = order != NEVER
    rows = np.where(found, order & 0xFFFFFFFF, -1)
    return rows, np.where(found, (order >> 32) * GRID, np.inf)


def latest(
    group: Whole,
    time: Whole,
    reference_group: Whole,
    reference_time: Whole,
    *,
    query_subject: Whole,
    reference_subject: Whole,
    reference_row: Whole,
    k: int,
    window: int,
) -> tuple[Whole, Whole]:
    """The k latest references of the same group, none after the sample's own time.

    Args:
        group: [N], 0 = none: no neighbours.
        time: [N].
        reference_group: [M], 0 = none: never a neighbour.
        reference_time: [M].
        query_subject: [N].
        reference_subject: [M]; those of the sample's own subject are passed over.
        reference_row: [M], what is returned; the lower row wins among equal times.
        k: K.
        window: The largest gap in time, inclusive.

    Returns:
        Rows [N, K] (-1 = none) and gaps in time [N, K], ascending; 0 where there is none.
    """
    rows, gaps = np.full((len(group), k), -1), np.zeros((len(group), k), dtype=np.int64)
    order = np.lexsort((-reference_row, reference_time, reference_group))
    order = order[reference_group[order] != 0]
    if not len(order):
        return rows, gaps
    times = np.unique(np.concatenate([reference_time, time]))
    groups = np.unique(reference_group[order])
    place = np.searchsorted(groups, reference_group[order]) * len(times)
    place += np.searchsorted(times, reference_time[order])

    known = np.isin(group, groups)
    base = np.searchsorted(groups, np.where(known, group, groups[0])) * len(times)
    oldest = np.searchsorted(times, time - window)
    first = np.searchsorted(place, base + oldest, side="left")
    stop = np.searchsorted(place, base + np.searchsorted(times, time), side="right")
    first, stop = np.where(known, first, 0), np.where(known, stop, 0)

    own = _own_counts(reference_group[order], reference_subject[order], group, query_subject)
    step = max(1, _BLOCK // max(1, k + int(own.max(initial=0))))
    for start in range(0, len(group), step):
        block = slice(start, start + step)
        found = _walk_back(
            first[block],
            stop[block],
            reference_subject[order],
            query_subject[block],
            k=k,
            width=k + int(own[block].max(initial=0)),
        )
        at = order[np.maximum(found, 0)]
        rows[block] = np.where(found >= 0, reference_row[at], -1)
        gaps[block] = np.where(found >= 0, time[block, None] - reference_time[at], 0)
    return rows, gaps


def _own_counts(
    reference_group: Whole, reference_subject: Whole, group: Whole, subject: Whole
) -> Whole:
    """How many references of a sample's group are its own subject's: what must be passed over."""
    pairs = np.stack([reference_group, reference_subject], 1)
    asked = np.stack([group, subject], 1)
    _, inverse = np.unique(np.concatenate([pairs, asked]), axis=0, return_inverse=True)
    counts = np.bincount(inverse.ravel()[: len(pairs)], minlength=int(inverse.max()) + 1)
    return counts[inverse.ravel()[len(pairs) :]]


def _walk_back(
    first: Whole, stop: Whole, subjects: Whole, own: Whole, *, k: int, width: int
) -> Whole:
    """Positions [N, k] from `stop - 1` down to `first`, without the own subject's; -1 = none."""
    position = stop[:, None] - 1 - np.arange(width)
    allowed = position >= first[:, None]
    allowed &= subjects[np.maximum(position, 0)] != own[:, None]
    front = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
    chosen = np.take_along_axis(position, front, 1)
    return np.where(np.take_along_axis(allowed, front, 1), chosen, -1)


def edges(rows: Whole, weight: Floats) -> Edges:
    """Edges with weights in (0, 1]: one that underflows is still an edge."""
    bounded = np.clip(weight, 1e-6, 1.0).astype(np.float32)
    return Edges(rows, np.where(rows >= 0, bounded, np.float32(0)))
