"""Notes and images: stored once an event, referred to by the samples that see them."""

from clinical.cohort.columns import Columns, Ragged, open_columns, write_blocks, write_table

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[Any]


def newest(visible: pl.DataFrame, n: int) -> pl.DataFrame:
    """The newest n rows of each sample, in the order given."""
    return visible.filter(pl.int_range(pl.len()).reverse().over("sample") < n)


def write_entries(blocks: Iterable[Mapping[str, Array | Ragged]], path: Path) -> None:
    """Write the columns of events as they come, at least one block, each with the same columns.

    Among them `event`: which of the shard's events an entry is of, or is a part of.
    Only one block is in memory at a time: a shard's images are larger than that.
    """
    write_blocks(_entries(path), blocks)


def write_seen(kept: pl.DataFrame, n_samples: int, events: Array, path: Path) -> None:
    """Write which samples see the written entries when.

    Args:
        kept: `sample, event, hours`, sorted by sample and time.
        n_samples: Of the shard.
        events: [R] by what number of `kept` each entry goes, in the order written.
        path: Without its ending.
    """
    rows = kept["sample"].to_numpy()
    order = np.argsort(events, kind="stable")
    place = np.searchsorted(events, kept["event"].to_numpy(), sorter=order)
    entry = order[place].astype(np.int64)
    # An event without a time is always visible, as if it had just become available.
    hours = kept["hours"].fill_null(0.0).to_numpy().astype(np.float32)
    seen = {
        "entry": Ragged.from_rows(entry, rows, n_samples),
        "hours": Ragged.from_rows(hours, rows, n_samples),
    }
    write_table(_samples(path), seen)


def _entries(path: Path) -> Path:
    return path.with_name(f"{path.name}.arrow")


def _samples(path: Path) -> Path:
    return path.with_name(f"{path.name}-samples.arrow")


@dataclass(frozen=True)
class Seen:
    """What the samples of a batch see.

    Attributes:
        entry: [R] row of the entries over all shards.
        sample: [R] the sample in the batch, ascending.
        hours: [R] float32, before its prediction time.
    """

    entry: NDArray[np.int64]
    sample: NDArray[np.int64]
    hours: NDArray[np.float32]


class Occurrences:
    """Stored events and the samples that see them, over all shards."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.entries: Columns = open_columns([_entries(path) for path in paths])
        self._samples = open_columns([_samples(path) for path in paths])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[N] events that each sample sees."""
        return self._samples["entry"].lengths

    @cached_property
    def _starts(self) -> tuple[Array, Array]:
        """The first sample and the first entry of each shard."""
        pairs = [(open_columns([_samples(p)]), open_columns([_entries(p)])) for p in self._paths]
        sizes = np.array([(samples.n_rows, entries.n_rows) for samples, entries in pairs])
        first = np.cumsum(sizes, axis=0) - sizes
        return first[:, 0], first[:, 1]

    def seen(self, rows: NDArray[np.int64]) -> Seen:
        """What the samples at `rows` [B] see, oldest first."""
        local = self._samples["entry"].take_ragged(rows)
        hours = self._samples["hours"].take_ragged(rows).values
        first_sample, first_entry = self._starts
        shard = np.searchsorted(first_sample, rows, side="right") - 1
        return Seen(local.values + first_entry[shard][local.row], local.row, hours)
