"""Which groups may be shown: none that is small, nor any that gives a small one away.

One system holds everything that a page counts of groups: the groups of all columns (periods of time
are one more), for all tasks at once. A group is small if for one of the tasks fewer than `smallest`
people are in it, or have one of the outcomes in it. Small groups are hidden for every task, and
with them as many others as it takes that what is shown, whole included,

- does not give a hidden small group, or its people with one outcome, by sums and differences within
  a column, across columns or across tasks;
- leaves no few people over: all hidden groups of a column together are not small either;
- has no count that is another one but for a few people.

What a reader knows from elsewhere, or from tables of the same patients at another time, is beyond
this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
TINY = 1e-9
WHOLE = -1
"""The column of the set of all rows."""


@dataclass(frozen=True)
class Cells:
    """Groups and outcomes of rows.

    Attributes:
        columns: [C][N] the group of each row in each column, 0 to its number of groups - 1.
        outcomes: [T][N] an outcome's number for each task; all 0 where there are none to tell
            apart, -1 where the task has not judged the row.
        subjects: [N] whose row it is.
        smallest: number of people below which a cell is small.
    """

    columns: Sequence[NDArray[np.int64]]
    outcomes: Sequence[NDArray[np.int64]]
    subjects: NDArray[np.int64]
    smallest: int

    @cached_property
    def groups(self) -> list[tuple[int, int]]:
        """(column, group) of each group."""
        return [
            (place, group)
            for place, column in enumerate(self.columns)
            for group in range(int(column.max(initial=-1)) + 1)
        ]

    @cached_property
    def judged(self) -> list[list[Bools]]:
        """By task: [N] which rows it has judged, and which have each outcome that is told apart."""
        found = []
        for outcome in self.outcomes:
            there = np.unique(outcome[outcome >= 0])
            each = [outcome == value for value in there] if len(there) > 1 else []
            found.append([outcome >= 0, *each])
        return found

    def rows(self, column: int, group: int) -> Bools:
        """[N] which rows are in a group; all of them for the column WHOLE."""
        if column == WHOLE:
            return np.ones(len(self.subjects), dtype=bool)
        return np.asarray(self.columns[column] == group)

    def parts(self, rows: Bools) -> Iterator[Bools]:
        """What is published of a set of rows: for each task those judged, and with each outcome."""
        for sets in self.judged:
            yield from (rows & each for each in sets)

    def people(self, rows: Bools) -> int:
        """How many people the rows are of."""
        return len(np.unique(self.subjects[rows]))

    def is_small(self, rows: Bools) -> bool:
        """Whether of a task that has judged any too few people are among them, or of an outcome."""
        return any(
            (rows & sets[0]).any() and any(self.are_few(rows & each) for each in sets)
            for sets in self.judged
        )

    def are_few(self, rows: Bools) -> bool:
        """Whether the rows are of fewer than `smallest` people, or of nobody."""
        places = np.flatnonzero(rows)
        some = places[: 50 * self.smallest]  # mostly enough of them, and quick
        if len(np.unique(self.subjects[some])) >= self.smallest:
            return False
        return self.people(rows) < self.smallest


def hidden_groups(cells: Cells, *, alone: int | None = None) -> set[tuple[int, int]]:
    """(column, group) of the groups not to be shown; all of them if the whole is small.

    Args:
        cells: groups and outcomes of the rows.
        alone: a column that is shown by itself elsewhere. What is shown of it there is known, so
            that others are hidden in its place, as far as there are any.
    """
    if cells.is_small(cells.rows(WHOLE, 0)):
        return set(cells.groups)
    small = {key for key in cells.groups if cells.is_small(cells.rows(*key))}
    hidden, told = set(small), set[tuple[int, int]]()
    if alone is not None:
        there = hidden_groups(replace(cells, columns=[cells.columns[alone]]))
        hidden |= {(alone, group) for _, group in there}
        told = {key for key in cells.groups if key[0] == alone} - hidden
    system = _System(cells)
    while True:
        also = (
            _left_over(cells, hidden)
            or system.nested(hidden, told)
            or system.solved(small, hidden, told)
        )
        if also is None:
            return hidden
        hidden.add(also)


def _left_over(cells: Cells, hidden: set[tuple[int, int]]) -> tuple[int, int] | None:
    """Another group to hide where those hidden in a column are small together."""
    for column in sorted({column for column, _ in hidden}):
        own = [group for place, group in hidden if place == column]
        together = np.isin(cells.columns[column], own)
        if cells.is_small(together):
            shown = [key for key in cells.groups if key[0] == column and key not in hidden]
            if shown:
                return _fewest(cells, shown)
    return None


def _fewest(cells: Cells, keys: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return min(keys, key=lambda key: (cells.people(cells.rows(*key)), key))


class _System:
    """The published counts as linear equations, of which a reader may take any combination.

    Unknown are the counts of the atoms: rows alike in every column and in their outcomes.
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        stacked = np.stack([*cells.columns, *cells.outcomes])
        _, first = np.unique(stacked, axis=1, return_index=True)
        self.keys = [
            (key, place)
            for key in [(WHOLE, 0), *cells.groups]
            for place in range(sum(map(len, cells.judged)))
        ]
        vectors = np.stack(
            [part[first] for key, place in self.keys if place == 0 for part in self._parts(key)]
        ).astype(np.float64)
        self.products = vectors @ vectors.T

    @cached_property
    def _close(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Groups of which one has a count that is one of the other's but for a few people."""
        sizes = np.diag(self.products)
        is_in = (self.products == sizes[:, None]) & (self.products < sizes[None, :])
        found = []
        for i, j in zip(*np.nonzero(is_in & (sizes > 0)[:, None]), strict=True):
            inner, outer = self.keys[i][0], self.keys[j][0]
            if inner[0] == outer[0] == WHOLE or (inner, outer) in found:
                continue
            if self.cells.are_few(self._rows(j) & ~self._rows(i)):
                found.append((inner, outer))
        return found

    def _rows(self, number: int) -> Bools:
        key, place = self.keys[number]
        return next(islice(self._parts(key), place, None))

    def nested(
        self, hidden: set[tuple[int, int]], told: set[tuple[int, int]]
    ) -> tuple[int, int] | None:
        """A shown group that is another one, for a task or across tasks, but for a few people."""
        for inner, outer in self._close:
            if not {inner, outer} & hidden:
                return outer if inner in told or inner[0] == WHOLE else inner
        return None

    def _parts(self, key: tuple[int, int]) -> Iterator[Bools]:
        return self.cells.parts(self.cells.rows(*key))

    def solved(
        self,
        small: set[tuple[int, int]],
        hidden: set[tuple[int, int]],
        told: set[tuple[int, int]],
    ) -> tuple[int, int] | None:
        """A shown group to hide since a small one follows from what is shown; None if none does."""
        shown = [i for i, (key, _) in enumerate(self.keys) if key not in hidden]
        known = self.products[np.ix_(shown, shown)]
        inverse = np.linalg.pinv(known, hermitian=True)
        for i, (key, _) in enumerate(self.keys):
            size = self.products[i, i]
            if key not in small or size == 0:
                continue
            share = inverse @ self.products[shown, i]
            if size - self.products[i, shown] @ share > TINY * size:
                continue  # a part of it is in no combination of what is shown
            used = {self.keys[j][0] for j, x in zip(shown, share, strict=True) if abs(x) > TINY}
            used.discard((WHOLE, 0))
            same_column = [each for each in used - told if each[0] == key[0]]
            if candidates := same_column or sorted(used - told) or sorted(used):
                return _fewest(self.cells, candidates)
        return None
