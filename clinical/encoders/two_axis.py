"""Encoder of measurements on a grid: attention along variables, then along time."""

from clinical.containers import SUMMARY_STATISTICS, TimeSeries
from clinical.encoders.encoding import Encoder, Encoding, check_heads
from clinical.encoders.pieces import PieceTable, cut
from clinical.encoders.pooling import AttentionPooling, TimeEmbedding
from clinical.encoders.transformer import Attention, FeedForward
from clinical.encoders.wide import WideSummary
from clinical.errors import ConfigError

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cells:
    """What the events of each variable in each block of time amount to.

    Attributes:
        mean, low, high: [B, V, T], of the readable positions; 0 where there is none.
        readable: [B, V, T] bool, at least one value may be read.
        count: [B, V, T], events, readable or not.
        place: [B, E] int64, row of the flattened [V * T] cells that an event lies in; V * T for
            an event outside the grid.
    """

    mean: Tensor
    low: Tensor
    high: Tensor
    readable: Tensor
    count: Tensor
    place: Tensor


def lay_out(events: TimeSeries, *, variables: int, blocks: int, block_hours: float) -> Cells:
    """Put events into cells; the oldest block takes all that is older.

    Args:
        events: E steps.
        variables: V, the most frequent ones of the vocabulary.
        blocks: T, the newest first.
        block_hours: length of a block.
    """
    size, cells = len(events.mask), variables * blocks
    stands = events.mask & (events.variable < variables)
    hours = events.time_hours.masked_fill(~stands, 0.0)
    block = (hours / block_hours).long().clamp(0, blocks - 1)
    place = torch.where(stands, events.variable * blocks + block, cells)
    readable = stands & events.observed
    value = events.value.masked_fill(~readable, 0.0)
    # A hidden value goes to the place outside the grid, so that no extreme can be one.
    read_at = place.masked_fill(~readable, cells)

    empty = value.new_zeros(size, cells + 1)
    n_read = empty.scatter_add(1, read_at, readable.to(value.dtype))[:, :cells]
    mean = empty.scatter_add(1, read_at, value)[:, :cells] / n_read.clamp(min=1)
    low = empty.scatter_reduce(1, read_at, value, "amin", include_self=False)[:, :cells]
    high = empty.scatter_reduce(1, read_at, value, "amax", include_self=False)[:, :cells]
    count = empty.scatter_add(1, place, stands.to(value.dtype))[:, :cells]
    shape = (size, variables, blocks)
    return Cells(
        mean=mean.view(shape),
        low=low.view(shape),
        high=high.view(shape),
        readable=n_read.view(shape) > 0,
        count=count.view(shape),
        place=place,
    )


class CellEmbedding(nn.Module):
    """A cell as a vector: its mean by pieces, its extremes around it and its count."""

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "extreme": ("vocabulary",),
        "count": ("vocabulary",),
    }

    def __init__(self, variables: int, width: int) -> None:
        super().__init__()
        self.extreme = nn.Parameter(torch.randn(variables, 2, width))
        self.count = nn.Parameter(0.5 * torch.randn(variables, width))

    def forward(self, cells: Cells, table: PieceTable) -> Tensor:
        """[B, V, T, D]."""
        variable = torch.arange(len(self.count), device=cells.mean.device)[:, None]
        level = table(variable.expand(cells.mean.shape), cells.mean, cells.readable)
        around = torch.stack((cells.low - cells.mean, cells.high - cells.mean), -1)
        embedded: Tensor = (
            level
            + torch.einsum("bvts,vsd->bvtd", around, self.extreme)
            + cells.count.log1p()[..., None] * self.count[:, None]
        )
        return embedded


class SummaryTokens(nn.Module):
    """A token per variable from its exact statistics of the whole window, cut into pieces."""

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "weight": ("vocabulary",),
        "level": ("vocabulary",),
        "missing": ("vocabulary",),
    }

    def __init__(self, variables: int, width: int, *, pieces: int, dropout: float) -> None:
        super().__init__()
        self.pieces = pieces
        self.dropout = nn.Dropout(dropout)
        features = len(SUMMARY_STATISTICS) * (pieces + 2)
        self.weight = nn.Parameter(torch.randn(variables, features, width) / features**0.5)
        self.level = nn.Parameter(torch.randn(variables, width))
        self.missing = nn.Parameter(torch.randn(variables, width))

    def forward(self, summary: Tensor, observed: Tensor) -> Tensor:
        """[B, V, S] positions, read where `observed` [B, V] -> [B, V, D]."""
        hidden = ~observed[..., None]
        features = cut(summary.masked_fill(hidden, 0.5), self.pieces).flatten(2)
        told = torch.einsum("bvf,vfd->bvd", self.dropout(features), self.weight) + self.level
        return torch.where(hidden, self.missing, told)


class AxialLayer(nn.Module):
    """Each block's variables look at each other, each variable's blocks do, then a network."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_variables = nn.LayerNorm(width)
        self.across_variables = Attention(width, heads=heads)
        self.norm_time = nn.LayerNorm(width)
        self.across_time = Attention(width, heads=heads)
        self.network = FeedForward(width, dropout=dropout)

    def forward(self, grid: Tensor) -> Tensor:
        """[B, T, V, D] -> the same shape."""
        by_block = self.norm_variables(grid).flatten(0, 1)
        seen = self.across_variables(by_block, by_block, None)
        grid = grid + seen.view_as(grid)
        by_variable = self.norm_time(grid).transpose(1, 2).flatten(0, 1)
        seen = self.across_time(by_variable, by_variable, None)
        grid = grid + seen.unflatten(0, (len(grid), grid.shape[2])).transpose(1, 2)
        together: Tensor = grid + self.network(grid)
        return together


class TwoAxisEncoder(Encoder):
    """Attention along variables and along time on a grid of exact cells, plus a wide path.

    The two axes follow DuETT (Labach et al., 2023, arXiv:2304.13017). Every variable has a cell
    for each block of time, an empty one too, and one token of exact statistics of the whole
    window; events of variables outside the grid are pooled beside it, and their statistics reach
    the wide path alone. The cost hardly depends on how many events a patient has.

    Args:
        sizes: `variables`, and `summary_variables` of them with exact summaries.
        width: D.
        layers, heads, dropout: of the axial layers.
        blocks: blocks of time; the oldest takes all that is older.
        block_hours: length of a block.
        grid_variables: at most so many, the most frequent, have cells.
        pieces: pieces of a value's embedding between the extreme quantiles.
        summary_pieces, summary_dropout: of the tokens of exact statistics.
        wide: whether there is a linear path over the same statistics.
        wide_pieces, wide_dropout: of the wide path.
    """

    only_in_training: ClassVar[frozenset[str]] = frozenset(
        {"dropout", "summary_dropout", "wide_dropout"}
    )

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        blocks: int = 12,
        block_hours: float = 4.0,
        grid_variables: int = 128,
        pieces: int = 16,
        summary_pieces: int = 8,
        summary_dropout: float = 0.2,
        wide: bool = True,
        wide_pieces: int = 10,
        wide_dropout: float = 0.6,
    ) -> None:
        super().__init__()
        check_heads("events", width, heads)
        if min(blocks, grid_variables) < 1 or not 0 < block_hours < math.inf:
            raise ConfigError(
                "modalities.events: blocks and grid_variables should be 1 or more, and "
                f"block_hours above 0 and finite (given: {blocks}, {grid_variables}, {block_hours})"
            )
        self.width = width
        self.blocks = blocks
        self.block_hours = block_hours
        self.n_cells = min(sizes["variables"], grid_variables)
        self.n_summaries = min(self.n_cells, sizes["summary_variables"])
        self.has_rest = sizes["variables"] > self.n_cells
        self.value = PieceTable(sizes["variables"], width, pieces=pieces)
        self.cell = CellEmbedding(self.n_cells, width)
        self.statistics = SummaryTokens(
            self.n_cells, width, pieces=summary_pieces, dropout=summary_dropout
        )
        self.time = TimeEmbedding(width, shortest_hours=0.5, longest_hours=2000.0)
        self.whole_window = nn.Parameter(torch.randn(width))
        self.layers = nn.ModuleList(
            AxialLayer(width, heads=heads, dropout=dropout) for _ in range(layers)
        )
        self.norm_cells = nn.LayerNorm(width)
        self.pool = AttentionPooling(width, heads=heads)
        self.norm = nn.LayerNorm(width)
        self.wide = (
            WideSummary(sizes["summary_variables"], width, pieces=wide_pieces, dropout=wide_dropout)
            if wide
            else None
        )

    def forward(self, container: TimeSeries) -> Encoding:
        """Encode events and summaries."""
        mask = container.mask
        cells = lay_out(
            container,
            variables=self.n_cells,
            blocks=self.blocks,
            block_hours=self.block_hours,
        )
        grid = self._grid(container, cells)
        # Blocks before variables: of the two attentions the one along variables is the dearer.
        grid = grid.transpose(1, 2).contiguous()
        for layer in self.layers:
            grid = layer(grid)
        grid = self.norm_cells(grid).transpose(1, 2)
        states = self._states(container, grid, cells)
        tells = torch.cat((cells.count > 0, self._summarised(container)[..., None]), 2)
        parts, stands = grid.flatten(1, 2), tells.flatten(1)
        if self.has_rest:
            rest = mask & (cells.place == self.n_cells * self.blocks)
            parts, stands = torch.cat((parts, states), 1), torch.cat((stands, rest), 1)
        summary = self.norm(self.pool(parts, stands))
        if self.wide is not None:
            summary = summary + self.wide(container.summary, container.summary_observed)
        return Encoding(summary=summary, tokens=states, token_mask=mask, states=states)

    def _summarised(self, container: TimeSeries) -> Tensor:
        """[B, V] the variables of the grid whose statistics may be read."""
        observed = container.summary_observed[:, : self.n_summaries]
        return nn.functional.pad(observed, (0, self.n_cells - self.n_summaries))

    def _grid(self, container: TimeSeries, cells: Cells) -> Tensor:
        """[B, V, T + 1, D] cells, the newest block first, then the whole window."""
        middle = (torch.arange(self.blocks, device=cells.mean.device) + 0.5) * self.block_hours
        blocks = self.cell(cells, self.value) + self.time(middle)
        rest = (0, 0, 0, self.n_cells - self.n_summaries)
        summary = nn.functional.pad(container.summary[:, : self.n_summaries], rest)
        whole = self.statistics(summary, self._summarised(container)) + self.whole_window
        return torch.cat((blocks, whole[:, :, None]), 2)

    def _states(self, container: TimeSeries, grid: Tensor, cells: Cells) -> Tensor:
        """[B, E, D] each event as its cell and its own time; outside the grid as its value."""
        hours = container.time_hours.masked_fill(~container.mask, 0.0)
        flat = grid[:, :, : self.blocks].flatten(1, 2)
        outside = cells.place == flat.shape[1]
        place = cells.place.masked_fill(outside, 0)
        states = flat.gather(1, place[..., None].expand(-1, -1, self.width))
        if self.has_rest:
            readable = container.observed & container.mask
            value = self.value(container.variable, container.value, readable)
            states = torch.where(outside[..., None], value, states)
        timed: Tensor = states + self.time(hours)
        return timed
