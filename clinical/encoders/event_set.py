"""Encoder of irregular measurements as a set of events, beside a wide path over exact summaries."""

from clinical.containers import TimeSeries
from clinical.encoders.encoding import Encoder, Encoding, check_heads
from clinical.encoders.pieces import PieceTable
from clinical.encoders.pooling import AttentionPooling, TimeEmbedding
from clinical.encoders.transformer import FullTransformer, LatentTransformer
from clinical.encoders.wide import WideSummary
from clinical.errors import ConfigError

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn


class DeepEvents(nn.Module):
    """A transformer over the events' embeddings, and its pooled summary."""

    def __init__(
        self, width: int, *, latents: int | None, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.transformer = (
            FullTransformer(width, layers=layers, heads=heads, dropout=dropout)
            if latents is None
            else LatentTransformer(
                width, latents=latents, layers=layers, heads=heads, dropout=dropout
            )
        )
        self.pool = AttentionPooling(width, heads=heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, D] and mask [B, T] -> contextual tokens [B, T, D] and summary [B, D]."""
        tokens, pooled, pooled_mask = self.transformer(tokens, mask)
        return tokens, self.norm(self.pool(pooled, pooled_mask))


class EventSetEncoder(Encoder):
    """A transformer over (variable, value, time) triplets without a grid, plus a wide path.

    The triplets follow STraTS (Tipirneni and Reddy, 2022, arXiv:2107.14293), values embedded
    piecewise-linearly per variable. The wide path is added after the deep path's last norm, so
    that what follows can read it linearly.

    Args:
        sizes: `variables`, and `summary_variables` of them with exact summaries.
        width: D.
        layers, heads, dropout: of the transformer.
        latents: learned vectors through which the events look at each other, at a cost that
            grows with their number; null lets each event look at every other, at a cost that
            grows with the square.
        pieces: pieces of a value's embedding between the extreme quantiles.
        wide: whether to read the summaries.
        wide_pieces: pieces of a summary statistic.
        wide_dropout: share of the wide features dropped in training.
        deep: whether to read the events; without them tokens and states are their embeddings.
    """

    only_in_training: ClassVar[frozenset[str]] = frozenset({"dropout", "wide_dropout"})

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        latents: int | None = 32,
        pieces: int = 16,
        wide: bool = True,
        wide_pieces: int = 10,
        wide_dropout: float = 0.6,
        deep: bool = True,
    ) -> None:
        super().__init__()
        if not (wide or deep):
            raise ConfigError("modalities.events: wide and deep are both off; switch one on")
        check_heads("events", width, heads)
        if latents is not None and latents < 1:
            raise ConfigError(f"modalities.events.latents: {latents} should be 1 or more, or null")
        self.width = width
        self.value = PieceTable(sizes["variables"], width, pieces=pieces)
        self.time = TimeEmbedding(width, shortest_hours=0.5, longest_hours=2000.0)
        self.deep = (
            DeepEvents(width, latents=latents, layers=layers, heads=heads, dropout=dropout)
            if deep
            else None
        )
        self.wide = (
            WideSummary(sizes["summary_variables"], width, pieces=wide_pieces, dropout=wide_dropout)
            if wide
            else None
        )

    def forward(self, container: TimeSeries) -> Encoding:
        """Encode events and summaries."""
        mask = container.mask
        hours = container.time_hours.masked_fill(~mask, 0.0)
        value = self.value(container.variable, container.value, container.observed & mask)
        tokens = value + self.time(hours)
        summary = tokens.new_zeros(len(mask), self.width)
        if self.deep is not None:
            tokens, summary = self.deep(tokens, mask)
        if self.wide is not None:
            summary = summary + self.wide(container.summary, container.summary_observed)
        return Encoding(summary=summary, tokens=tokens, token_mask=mask, states=tokens)
