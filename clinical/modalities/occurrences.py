"""Notes and images: stored once an event, referred to by the samples that see them."""

from clinical.cohort.columns import Columns, Ragged, open_columns, write_blocks, write_table
from clinical.containers import Container

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


def encodings_path(folder: Path, name: str, digest: str) -> Path:
    """Where a shard keeps what frozen weights made of each entry of a modality.

    Args:
        folder: Of the shard.
        name: Of the modality.
        digest: Of the weights; "*" finds those of any.
    """
    return folder / f"{name}-encoded-{digest}.arrow"


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


class OccurrencesReader:
    """Stored notes or images of all shards, each read as it is or as frozen weights encoded it.

    Args:
        folders: Of the shards.
        name: Of the modality.
    """

    def __init__(self, folders: Sequence[Path], name: str) -> None:
        self._folders = folders
        self._name = name
        self._stored = Occurrences([folder / name for folder in folders])
        self._encodings: Columns | None = None

    def container(self, seen: Seen, size: int, *, encoded: Array | None) -> Container:
        """The entries that are seen, as rows of a batch of `size` samples.

        Args:
            seen: By whom, and when.
            size: B.
            encoded: [R, F] what to give in place of what is stored, where it was encoded before;
                an entry may be several rows.
        """
        raise NotImplementedError

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N] entries that each sample sees."""
        return self._stored.lengths

    @property
    def present(self) -> NDArray[np.bool_]:
        """[N] at least one entry."""
        return self.lengths > 0

    @property
    def n_entries(self) -> int:
        """Entries over all shards, each once however many samples see it."""
        return self._stored.entries.n_rows

    def read_encodings(self, digest: str) -> None:
        """From now on give the encodings of some frozen weights, if they are kept here."""
        paths = [encodings_path(folder, self._name, digest) for folder in self._folders]
        if all(path.exists() for path in paths):
            self._encodings = open_columns(paths)

    def collate(self, rows: NDArray[np.int64]) -> Container:
        """What the samples at `rows` [B] see, oldest first."""
        seen = self._stored.seen(rows)
        known = self._encodings
        encoded = None if known is None else known["encoded"].take_ragged(seen.entry).values
        return self.container(seen, len(rows), encoded=encoded)

    def collate_entries(self, entries: NDArray[np.int64]) -> Container:
        """Entries [R] as if each were seen by a sample of its own, at its prediction time."""
        hours = np.zeros(len(entries), dtype=np.float32)
        seen = Seen(entries, np.arange(len(entries), dtype=np.int64), hours)
        return self.container(seen, len(entries), encoded=None)
