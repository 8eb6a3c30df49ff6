"""One row of plain numbers a sample, from the same batches that the network reads."""

from clinical.batch import ClinicalBatch, CodeSet, Container, Images, TimeSeries, Tokens, Vector

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

Tabulate = Callable[..., Tensor]


def _events(container: TimeSeries) -> Tensor:
    """[B, V * S]: exact summaries of each variable, NaN where it was not measured."""
    unseen = ~container.summary_observed[:, :, None]
    return container.summary.masked_fill(unseen, torch.nan).flatten(1)


def _static(container: Vector) -> Tensor:
    """[B, V]: static columns, NaN where unknown."""
    return container.value.masked_fill(~container.observed, torch.nan)


def _codes(container: CodeSet, *, codes: int) -> Tensor:
    """[B, C]: 1 for each code of the sample."""
    indicator = torch.zeros(len(container.code), codes + 1)
    filled = torch.where(container.mask, container.code, torch.full_like(container.code, codes))
    return indicator.scatter_(1, filled, 1.0)[:, :codes]


def _notes(container: Tokens, *, vocabulary: int) -> Tensor:
    """[B, vocabulary]: how often each word piece stands in the sample's notes, log-scaled."""
    counts = torch.zeros(container.size * vocabulary)
    cell = container.sample[:, None] * vocabulary + container.ids
    cell = cell[container.mask]
    counts.index_add_(0, cell, torch.ones(len(cell)))
    return counts.view(container.size, vocabulary).log1p()


def _images(container: Images) -> Tensor:
    """[B, 64]: the newest image's brightness on an 8 x 8 grid, NaN where there is none."""
    grid = torch.nn.functional.adaptive_avg_pool2d(container.pixels, 8).flatten(1)
    order = torch.argsort(container.time_hours, descending=True, stable=True)
    # The last of each sample in that order: writing twice to one row would let threads decide.
    last = torch.full((container.size,), -1).scatter_reduce(
        0, container.sample[order], torch.arange(len(order)), "amax"
    )
    seen = last >= 0
    newest = torch.full((container.size, 64), torch.nan)
    newest[seen] = grid[order[last[seen]]]
    return newest


TABULATED: Mapping[type[Container], tuple[Tabulate, tuple[str, ...]]] = {
    TimeSeries: (_events, ()),
    Vector: (_static, ()),
    CodeSet: (_codes, ("codes",)),
    Tokens: (_notes, ("vocabulary",)),
    Images: (_images, ()),
}
"""Container -> how it becomes columns, and the sizes that needs."""


def tabulate(
    batches: Iterable[ClinicalBatch], sizes: Mapping[str, Mapping[str, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Flat features of every sample; a container without a line in `TABULATED` adds none.

    Args:
        batches: in any order.
        sizes: modality -> sizes of its encoder.

    Returns:
        rows [N] int64, store row of each sample; features [N, F] float32, NaN where missing.
    """
    rows, features = [], []
    for batch in batches:
        columns = []
        for name, container in batch.inputs.items():
            if type(container) not in TABULATED:
                continue
            function, needs = TABULATED[type(container)]
            columns.append(function(container, **{key: sizes[name][key] for key in needs}))
        rows.append(batch.row.numpy())
        features.append(torch.cat(columns, dim=1).numpy().astype(np.float32))
    return np.concatenate(rows), np.concatenate(features)
