"""Notes and images: stored once an event, referred to by the samples that see them."""

from clinical.cohort.columns import Columns, Ragged, open_columns, write_table

from collections.abc import Mapping, Sequence
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


def write_occurrences(
    kept: pl.DataFrame,
    n_samples: int,
    entries: Mapping[str, Array | Ragged],
    events: Array,
    path: Path,
) -> None:
    """Write the events that `kept` names, and which samples see them when.

    Args:
        kept: Visible rows, sorted by sample and time.
        n_samples: Of the shard.
        entries: Columns of the events, in the order of `events`; which row of its shard of the
            extract an event is, is added as `event`.
        events: [R] the distinct `event` of `kept`, ascending.
        path: Without its ending.
    """
    rows = kept["sample"].to_numpy()
    entry = np.searchsorted(events, kept["event"].to_numpy()).astype(np.int64)
    # An event without a time is always visible, as if it had just become available.
    hours = kept["hours"].fill_null(0.0).to_numpy().astype(np.float32)
    seen = {
        "entry": Ragged.from_rows(entry, rows, n_samples),
        "hours": Ragged.from_rows(hours, rows, n_samples),
    }
    write_table(_entries(path), {**entries, "event": events})
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
