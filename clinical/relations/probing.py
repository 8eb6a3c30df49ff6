"""Neighbours from a few lists of references: exact among the references of those lists.

An inverted file (Sivic and Zisserman, 2003; Jégou et al., 2011): each reference stands in the list
of its closest centroid, and a query looks through the lists of the centroids closest to it. One
product of matrices compares a list with all queries that look through it, in float32. Whatever
its rounding leaves in doubt is computed again pair by pair in float64, so that the answer depends
on neither the other queries nor their order.
"""

from clinical.relations.neighbours import (
    FARTHEST,
    GRID,
    NEVER,
    Floats,
    Whole,
    nearest,
    ordered,
    told_apart,
)

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_QUERIES = 32_768  # at once; the more, the more of them look through the same list
_CHOICES = 2**23  # queries times lists at once
_MEMBERS = 4096  # of a list, at once
_ENTRIES = 250_000  # of a matrix of distances: 1 MB, which caches hold
_PAIRS = 2048  # of float64 keys, at once
_HELD = 2**20  # pairs that wait to be computed exactly
_FIRST = 2  # lists that set the limit for the others
_GROWTH = 4
_ROUNDING = 2e-9  # of squares: more than `ordered` may move them


@dataclass(frozen=True)
class Lists:
    """References by their closest centroid; C lists, M references in them.

    Attributes:
        centre: [D] float32, near all keys: float32 is exact enough for what is left of them.
        centroids: [C, D] float32.
        offsets: [C + 1] int64; list i is at `offsets[i]:offsets[i + 1]` of what follows.
        rows: [M] int64, which reference it is.
        packed: [M, D + 1] float32, the reference's key less the centre, then the square of its
            length.
    """

    centre: NDArray[np.float32]
    centroids: NDArray[np.float32]
    offsets: Whole
    rows: Whole
    packed: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.centroids)

    def closest(self, query: Floats, n_lists: int) -> Whole:
        """The lists [N, n_lists] of each query, that of the closest centroid first."""
        lists, _ = nearest(
            query,
            self.centroids.astype(np.float64),
            query_subject=np.full(len(query), -1),
            reference_subject=np.zeros(len(self), dtype=np.int64),
            reference_row=np.arange(len(self)),
            k=n_lists,
        )
        return lists


@dataclass(frozen=True)
class Points:
    """Keys with what decides who may be whose neighbour.

    Attributes:
        key: [N, D] float64.
        subject: [N]; never a neighbour of itself.
        row: [N] from 0 to 2**31 - 1, what is returned; breaks ties.
    """

    key: Floats
    subject: Whole
    row: Whole

    def __len__(self) -> int:
        return len(self.key)

    def take(self, index: Whole) -> Self:
        """Some of them."""
        return type(self)(self.key[index], self.subject[index], self.row[index])


def probe(
    lists: Lists, query: Points, reference: Points, *, k: int, n_probe: int
) -> tuple[Whole, Floats]:
    """As `nearest`, among the references in the `n_probe` closest lists of each query.

    A query that finds fewer than k there looks through further lists, if need be through all.

    Args:
        lists: Of the reference.
        query: N.
        reference: Who stands in the lists.
        k: K.
        n_probe: From 1 to the number of lists.

    Returns:
        Rows [N, K] (-1 = none) and distances [N, K], ascending; infinite where there is none.

    Raises:
        FloatingPointError: A key is not finite.
    """
    rows, distance = np.full((len(query), k), -1), np.full((len(query), k), np.inf)
    step = max(1, min(_QUERIES, _CHOICES // n_probe))
    for start in range(0, len(query), step):
        block = np.arange(start, min(start + step, len(query)))
        search = _Search(lists, query.take(block), reference, k)
        chosen = lists.closest(query.key[block], n_probe)
        search.visit(chosen[:, :_FIRST])
        search.visit(chosen[:, _FIRST:])
        rows[block], distance[block] = told_apart(search.best)
    few = np.flatnonzero(rows[:, -1] < 0)
    if len(few) and n_probe < len(lists):
        more = min(_GROWTH * n_probe, len(lists))
        rows[few], distance[few] = probe(lists, query.take(few), reference, k=k, n_probe=more)
    return rows, distance


class _Search:
    """The best so far of some queries, while they look through lists.

    Attributes:
        best: [B, K] int64, ascending, as `ordered` makes them.
    """

    def __init__(self, lists: Lists, query: Points, reference: Points, k: int) -> None:
        self.best = np.full((len(query), k), NEVER)
        self._lists, self._query, self._reference = lists, query, reference
        centred = query.key - lists.centre
        self._square = np.square(centred).sum(1)
        # Times a row of `packed`: the squared distance less `_square`.
        self._factors = np.ones((len(query), query.key.shape[1] + 1), dtype=np.float32)
        self._factors[:, :-1] = -2 * centred
        self._bound = np.full(len(query), np.inf, dtype=np.float32)
        self._waiting: list[tuple[Whole, Whole]] = []
        self._n_waiting = 0

    def visit(self, chosen: Whole) -> None:
        """Look through lists [B, P], different ones for each query, list by list."""
        order = np.argsort(chosen, axis=None, kind="stable")
        who = order // max(1, chosen.shape[1])
        starts = np.searchsorted(chosen.ravel()[order], np.arange(len(self._lists) + 1))
        for number in np.flatnonzero(np.diff(starts)):
            self._look_through(number, who[starts[number] : starts[number + 1]])
        self._settle()

    def _look_through(self, number: np.int64, who: Whole) -> None:
        first, stop = self._lists.offsets[number : number + 2]
        for start in range(first, stop, _MEMBERS):
            members = slice(start, min(start + _MEMBERS, stop))
            step = max(1, _ENTRIES // (members.stop - start))
            for some in range(0, len(who), step):
                self._compare(who[some : some + step], members)

    def _compare(self, who: Whole, members: slice) -> None:
        """Put aside the pairs that may be among the best."""
        rows = self._lists.rows[members]
        gap = self._factors[who] @ self._lists.packed[members].T
        bound = self._bound[who]
        unbound = np.flatnonzero(np.isinf(bound))
        if len(unbound):
            bound[unbound] = self._bound_by(gap[unbound], who[unbound], rows)
        # What overflows in float32 is no number, and left to float64.
        close = np.flatnonzero(~(gap > bound[:, None]))
        if not len(close):
            return
        at, member = np.divmod(close, len(rows))
        self._waiting.append((who[at], rows[member]))
        self._n_waiting += len(at)
        if self._n_waiting > _HELD:
            self._settle()

    def _bound_by(self, gap: NDArray[np.float32], who: Whole, rows: Whole) -> NDArray[np.float32]:
        """Bounds [B] by the k-th smallest gap to references of other subjects, if there is one."""
        k = self.best.shape[1]
        if len(rows) < k:
            return np.full(len(who), np.float32(np.inf))
        own = self._query.subject[who, None] == self._reference.subject[rows]
        kth = np.partition(np.where(own, np.float32(np.inf), gap), k - 1, axis=1)[:, k - 1]
        square = kth + self._square[who]
        return self._bounds(square + self._error(who, square), who)

    def _bounds(self, square: Floats, who: Whole) -> NDArray[np.float32]:
        """Above it, a gap is of a reference that the grid too puts farther than `square`."""
        limit = _widened(square)
        bounds: Floats = limit + self._error(who, limit) - self._square[who]
        return bounds.astype(np.float32)

    def _error(self, who: Whole, square: Floats) -> Floats:
        """How far float32 may be from the squared distance, where that is `square` or less.

        A sum of D + 1 products of rounded numbers is off by less than (D + 4) / 2**24 of their
        absolute sum. That is less than six times what is added here, since a reference is no
        farther from the centre than the query is, and its distance.
        """
        scale = 8 * (self._query.key.shape[1] + 4) / 2**24
        error: Floats = scale * (self._square[who] + np.maximum(square, 0))
        return error

    def _settle(self) -> None:
        """Compute the pairs that wait, and keep the best."""
        if not self._n_waiting:
            return
        who, rows = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._n_waiting = [], 0
        other = self._query.subject[who] != self._reference.subject[rows]
        who, rows = who[other], rows[other]
        order = ordered(self._squares(who, rows), self._reference.row[rows])
        n_queries, k = self.best.shape
        everyone = np.concatenate([np.repeat(np.arange(n_queries), k), who])
        order = np.concatenate([self.best.ravel(), order])
        arranged = np.lexsort((order, everyone))
        everyone = everyone[arranged]
        place = np.arange(len(everyone))
        place -= np.searchsorted(everyone, np.arange(n_queries))[everyone]
        self.best = order[arranged][place < k].reshape(n_queries, k)
        _, farthest = told_apart(self.best[:, -1])
        self._bound = self._bounds(np.square(farthest), np.arange(n_queries))

    def _squares(self, who: Whole, rows: Whole) -> Floats:
        """Squared distances of pairs; each is summed by itself, whatever stands beside it."""
        square = np.empty(len(who))
        for start in range(0, len(who), _PAIRS):
            some = slice(start, start + _PAIRS)
            gap = self._query.key[who[some]] - self._reference.key[rows[some]]
            square[some] = np.square(gap).sum(1)
        if not np.isfinite(square).all():
            raise FloatingPointError("a key is not finite")
        return square


def _widened(square: Floats) -> Floats:
    """Squares up to which the grid may make a distance no larger than that of `square`."""
    widened = np.square(np.sqrt(np.maximum(square, 0)) + GRID) + _ROUNDING
    return np.where(square < np.square(FARTHEST * GRID), widened, np.inf)
