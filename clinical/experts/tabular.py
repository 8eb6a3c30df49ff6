"""One row of plain numbers a sample, from the same batches that the network reads."""

from clinical.batch import ClinicalBatch
from clinical.config import RunConfig
from clinical.containers import SUMMARY_STATISTICS, CodeSet, Images, TimeSeries, Tokens, Vector

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

S = len(SUMMARY_STATISTICS)
GRID = 8


def _events(container: TimeSeries) -> Tensor:
    """[B, V * S]: exact summaries of each variable, NaN where it was not measured."""
    unseen = ~container.summary_observed[:, :, None]
    return container.summary.masked_fill(unseen, torch.nan).flatten(1)


def _static(container: Vector) -> Tensor:
    """[B, V]: static columns, NaN where unknown."""
    return container.value.masked_fill(~container.observed, torch.nan)


def _codes(container: CodeSet, n_codes: int) -> Tensor:
    """[B, C]: 1 for each code of the sample."""
    indicator = torch.zeros(len(container.code), n_codes + 1)
    filled = torch.where(container.mask, container.code, torch.full_like(container.code, n_codes))
    return indicator.scatter_(1, filled, 1.0)[:, :n_codes]


def _notes(container: Tokens, vocabulary: int) -> Tensor:
    """[B, vocabulary]: how often each word piece stands in the sample's notes, log-scaled."""
    counts = torch.zeros(container.size * vocabulary)
    cell = container.sample[:, None] * vocabulary + container.ids
    cell = cell[container.mask]
    counts.index_add_(0, cell, torch.ones(len(cell)))
    return counts.view(container.size, vocabulary).log1p()


def _images(container: Images) -> Tensor:
    """[B, GRID²]: the newest image's brightness on a grid, NaN where there is none."""
    own = container.pixels[:, container.pixels.shape[1] // 2]  # not a slice's neighbours
    grid = torch.nn.functional.adaptive_avg_pool2d(own, GRID).flatten(1)
    order = torch.argsort(container.time_hours, descending=True, stable=True)
    # The last of each sample in that order: writing twice to one row would let threads decide.
    last = torch.full((container.size,), -1).scatter_reduce(
        0, container.sample[order], torch.arange(len(order)), "amax"
    )
    seen = last >= 0
    newest = torch.full((container.size, GRID**2), torch.nan)
    newest[seen] = grid[order[last[seen]]]
    return newest


@dataclass(frozen=True)
class _Block:
    """The columns of one modality.

    Attributes:
        columns: (container, size) -> [B, F].
        size: which of the modality's sizes `columns` needs.
        n_columns: F for that size.
    """

    columns: Callable[[Any, int], Tensor]
    size: str
    n_columns: Callable[[int], int]


BLOCKS: Mapping[str, _Block] = {
    "events": _Block(lambda events, _: _events(events), "summary_variables", lambda n: n * S),
    "static": _Block(lambda static, _: _static(static), "columns", lambda n: n),
    "notes": _Block(_notes, "vocabulary", lambda n: n),
    "images": _Block(lambda images, _: _images(images), "size", lambda _: GRID**2),
    "codes": _Block(_codes, "codes", lambda n: n),
}
"""Modality -> its columns; one without a line here adds none."""


@dataclass(frozen=True)
class Tabulator:
    """Flat features of samples: the same for a sample alone as in any batch.

    Attributes:
        sizes: modality -> sizes of its encoder, in the order of the columns.
    """

    sizes: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, config: RunConfig, sizes: Mapping[str, Mapping[str, int]]) -> "Tabulator":
        """The features of a run's modalities."""
        return cls({name: sizes[name] for name in config.modalities if name in BLOCKS})

    @property
    def n_columns(self) -> int:
        """F, the features of a sample."""
        return sum(self._widths.values())

    @property
    def _widths(self) -> dict[str, int]:
        """Modality -> its features, in their order."""
        return {
            name: BLOCKS[name].n_columns(sizes[BLOCKS[name].size])
            for name, sizes in self.sizes.items()
        }

    def columns(self, modality: str) -> slice:
        """Where a modality's features stand; an empty one where it has none."""
        names = list(self._widths)
        before = names[: names.index(modality)] if modality in names else names
        start = sum(self._widths[name] for name in before)
        return slice(start, start + self._widths.get(modality, 0))

    def only(self, modality: str) -> "Tabulator":
        """The features of one modality alone."""
        return Tabulator({name: sizes for name, sizes in self.sizes.items() if name == modality})

    def features(self, batch: ClinicalBatch, without: frozenset[str] = frozenset()) -> np.ndarray:
        """[B, F] float32, NaN where missing; the modalities of `without` as if never recorded."""
        everyone = torch.ones(len(batch), dtype=torch.bool)
        columns = [torch.zeros(len(batch), 0)]
        for name, sizes in self.sizes.items():
            block, container = BLOCKS[name], batch.inputs[name]
            seen = container.drop(everyone) if name in without else container
            columns.append(block.columns(seen, sizes[block.size]))
        return torch.cat(columns, dim=1).numpy().astype(np.float32)

    def table(self, batches: Iterable[ClinicalBatch]) -> tuple[np.ndarray, np.ndarray]:
        """The features of every sample of batches in any order.

        Returns:
            rows [N] int64, store row of each sample; features [N, F].
        """
        parts = [(batch.row.numpy(), self.features(batch)) for batch in batches]
        rows, features = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(features)
