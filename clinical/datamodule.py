"""Batches from a store: who goes together, in which order, and what travels with them."""

from clinical.batch import ClinicalBatch, Neighbours, Target
from clinical.cohort.columns import Columns
from clinical.cohort.labels import label_array
from clinical.cohort.store import Store
from clinical.config import RunConfig, TaskConfig
from clinical.modalities import Reader
from clinical.modalities.contract import RowReader
from clinical.modalities.shards import modalities_of
from clinical.processes import worker_context

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

_WINDOW = 50


class StoreDataset(Dataset[ClinicalBatch]):
    """The samples of a store; an item is a whole batch.

    It holds the folder and opens it when first asked, so that each worker maps the files itself.
    """

    def __init__(
        self, folder: Path, config: RunConfig, encodings: Mapping[str, str] | None = None
    ) -> None:
        self._folder = Path(folder)
        self._config = config
        self._encodings = dict(encodings or {})

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_folder": self._folder,
            "_config": self._config,
            "_encodings": self._encodings,
        }

    @cached_property
    def readers(self) -> dict[str, Reader]:
        """The stored modalities."""
        store = Store.open(self._folder)
        readers = {
            name: modality.open(store.shards, store.statistics[name])
            for name, modality in modalities_of(self._config).items()
        }
        for name, digest in self._encodings.items():
            cast(RowReader, readers[name]).read_encodings(digest)
        return readers

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[N] steps of each sample over all modalities: what decides the size of a batch."""
        lengths = [reader.lengths for reader in self.readers.values()]
        total: NDArray[np.int64] = np.sum(lengths, axis=0, dtype=np.int64)
        return total

    @cached_property
    def _neighbours(self) -> dict[str, Columns]:
        store = Store.open(self._folder)
        return {
            name: store.neighbours(name)
            for name in self._config.graph.relations
            if store.neighbours_path(name).exists()
        }

    @cached_property
    def _labels(self) -> dict[str, NDArray[np.float64]]:
        samples = Store.open(self._folder).samples
        return {name: label_array(samples, name, task) for name, task in self._config.tasks.items()}

    def __getitem__(self, rows: NDArray[np.int64]) -> ClinicalBatch:
        """The samples at `rows` [B] of the store, in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        return ClinicalBatch(
            row=torch.from_numpy(rows.copy()),
            inputs={name: reader.collate(rows) for name, reader in self.readers.items()},
            neighbours={
                name: Neighbours(
                    **{part: torch.from_numpy(columns[part].take(rows)) for part in columns.names}
                )
                for name, columns in self._neighbours.items()
            },
            targets={
                name: _target(self._labels[name][rows], task)
                for name, task in self._config.tasks.items()
            },
        )


def _target(labels: NDArray[np.float64], task: TaskConfig) -> Target:
    """Of labels [B, n]; a single column is a target [B], unless it is that of a class."""
    if labels.shape[1] == 1 and task.kind != "multilabel":
        labels = labels[:, 0]
    observed = ~np.isnan(labels)
    value = np.where(observed, labels, 0).astype(np.float32)
    return Target(value=torch.from_numpy(value), observed=torch.from_numpy(observed))


class BucketSampler(Sampler[NDArray[np.int64]]):
    """Batches of samples of similar length, each sample once an epoch.

    Shuffled, samples are drawn into windows of 50 batches, sorted by length within a window and
    cut into batches, whose order is drawn too; unshuffled, all are sorted by length. The order is
    a function of seed and epoch alone.

    Args:
        rows: [N] rows of the store.
        lengths: [N] steps of those samples.
        batch_size: Samples of a batch; the last one may have fewer.
        seed: None does not shuffle.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        lengths: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int | None,
    ) -> None:
        self._rows = rows
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; the training loop calls it at each epoch's start."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        if self._seed is None:
            yield from self._batches(np.arange(len(self._rows)))
            return
        generator = np.random.default_rng([self._seed, self._epoch])
        drawn = generator.permutation(len(self._rows))
        width = _WINDOW * self._batch_size
        windows = [drawn[start : start + width] for start in range(0, len(drawn), width)]
        batches = [batch for window in windows for batch in self._batches(window)]
        for number in generator.permutation(len(batches)):
            yield batches[number]

    def _batches(self, index: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        order = index[np.argsort(self._lengths[index], kind="stable")]
        size = self._batch_size
        return [self._rows[order[start : start + size]] for start in range(0, len(order), size)]


def make_loader(
    folder: Path,
    config: RunConfig,
    rows: NDArray[np.int64],
    *,
    batch_size: int,
    workers: int | None = None,
    shuffle_seed: int | None = None,
    encodings: Mapping[str, str] | None = None,
) -> DataLoader[ClinicalBatch]:
    """Batches of some samples of a store; `batch.row` says which.

    Args:
        folder: Of the store.
        config: Modalities, relations and tasks of the batches.
        rows: [N] rows of the store, none of them left out.
        batch_size: Samples of a batch; the last one may have fewer.
        workers: Processes that read ahead; 0 reads in this one, None is the configuration's number.
        shuffle_seed: None sorts by length and does not shuffle.
        encodings: Modality -> digest of the frozen weights that will read the batches; rows come
            as those weights encoded them, where the store keeps that.
    """
    dataset = StoreDataset(folder, config, encodings)
    rows = np.asarray(rows, dtype=np.int64)
    lengths = dataset.lengths[rows] if len(rows) else rows
    sampler = BucketSampler(rows, lengths, batch_size=batch_size, seed=shuffle_seed)
    return sampled_loader(dataset, config, sampler, workers=workers)


def sampled_loader(
    dataset: StoreDataset,
    config: RunConfig,
    sampler: Sampler[NDArray[np.int64]],
    *,
    workers: int | None = None,
) -> DataLoader[ClinicalBatch]:
    """Batches of the rows that a sampler says, one batch after the other; see `make_loader`."""
    workers = config.trainer.workers if workers is None else workers
    return DataLoader(
        dataset,
        # Not `batch_sampler`: Lightning calls `set_epoch` on `sampler`.
        sampler=sampler,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        multiprocessing_context=worker_context("clinical.modalities.shards") if workers else None,
        persistent_workers=workers > 0,
        # Its own, or starting an epoch would draw from the global generator.
        generator=torch.Generator().manual_seed(0),
        pin_memory=torch.cuda.is_available(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch
