"""What every modality offers the preparation and the loader; the model never sees these."""

from clinical.containers import Container

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

Statistics = dict[str, Any]
"""What a modality learned from train: plain values that survive JSON."""

Counts = dict[str, int]
"""What writing a shard met, such as events cut or left out; for the user's eyes."""

Frames = Callable[[], Iterable[pl.DataFrame]]
"""Starts a pass over the visible frames of the train split, one frame a shard.

A visible frame has one row per (sample, event), sorted by sample, time and original row:
`sample` (row of the sample in the shard), `event` (row of the event in the shard), `subject`,
`hours` (before the prediction time; null where static), `code`, `numeric_value`, `text_value`,
`image_path`. It holds only events of this modality.
"""


class Reader(Protocol):
    """The stored side of a modality, memory-mapped when first used; pickles as paths."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N] steps of each sample over all shards in order."""

    @property
    def present(self) -> NDArray[np.bool_]:
        """[N] whether a sample has something of this modality."""

    def collate(self, rows: NDArray[np.int64]) -> Container:
        """The samples at `rows` [B] of the store, in that order, copied into tensors."""


class RowReader(Reader, Protocol):
    """A reader whose entries an encoder may encode once, for all samples that see them."""

    @property
    def n_entries(self) -> int:
        """Entries over all shards."""

    def collate_entries(self, entries: NDArray[np.int64]) -> Container:
        """Entries [R], a row and a sample each."""

    def read_encodings(self, digest: str) -> None:
        """From now on give the encodings of some frozen weights, if they are kept here."""


class Modality(Protocol):
    """The data side of one kind of input; its keyword arguments are YAML keys.

    Keys on which the encoder's weights depend, by their shapes or what they read, may be named in
    `shaping`.
    """

    def fit(
        self,
        shards: Frames,
        *,
        seed: int,
        codes: pl.DataFrame | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> Statistics:
        """Learn vocabularies and scales from train.

        Args:
            shards: The visible frames.
            seed: Of what is drawn.
            codes: metadata/codes.parquet.
            elsewhere: The codes of train that other modalities show.
        """

    def sizes(self, statistics: Statistics) -> dict[str, int]:
        """All that the encoder needs to be built."""

    def variables(self, statistics: Statistics) -> Sequence[str]:
        """Codes of the variables that train taught; none where codes are no variables."""

    def entries(self, statistics: Statistics) -> Sequence[str | None]:
        """Codes to which weights of the encoder belong one by one, in the order of their rows;
        None for a row that stands for all unknown ones."""

    def write(
        self,
        visible: pl.DataFrame,
        n_samples: int,
        statistics: Statistics,
        folder: Path,
        *,
        read_image: Callable[[str], Path],
        workers: int = 1,
        codes: pl.DataFrame | None = None,
    ) -> Counts:
        """Write one shard's samples into `folder`.

        Args:
            visible: The visible frame.
            n_samples: Of the shard.
            statistics: What `fit` learned, perhaps from another extract.
            folder: Of the shard.
            read_image: Resolves an image_path.
            workers: Threads or processes that may be used.
            codes: metadata/codes.parquet of the extract at hand.
        """

    def open(self, folders: Sequence[Path], statistics: Statistics) -> Reader:
        """Read back what `write` left in `folders`, one a shard, as one."""


@runtime_checkable
class Adopting(Protocol):
    """A modality whose weights mean nothing without what was learned along with them."""

    def adopt(self, own: Statistics, given: Statistics) -> Statistics:
        """What was learned here, with that of `given` which the weights of another run read.

        Args:
            own: What `fit` learned.
            given: What the other run's `fit` learned.

        Raises:
            ConfigError: They can't be read by one network.
        """


def nonzero(counts: Mapping[str, int]) -> Counts:
    """The counts worth showing."""
    return {name: int(count) for name, count in counts.items() if count}
