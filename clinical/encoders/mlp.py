"""Encoder of static columns."""

from clinical.containers import Vector
from clinical.encoders.encoding import Encoder, Encoding
from clinical.encoders.pieces import PieceTable

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MLPEncoder(Encoder):
    """A two-layer network over the known columns, each cut into pieces.

    Its first layer is the sum of the known columns' piecewise-linear curves: a column that is not
    known adds nothing, and one that is adds its own vector besides its value's, so that being
    known can be read too.

    Args:
        sizes: `columns`.
        width: D.
        pieces: pieces of a number between the extreme quantiles.
        dropout: of the hidden layer.
    """

    scale: Tensor

    def __init__(
        self, sizes: Mapping[str, int], *, width: int = 64, pieces: int = 8, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.width = width
        self.column = PieceTable(sizes["columns"], width, pieces=pieces)
        # A learned shift: a fixed scale keeps the sum additive, where a norm would not.
        self.shift = nn.Parameter(torch.zeros(width))
        # It travels with the weights: a network that begins with them, with other columns, reads
        # their sum as it was learned, and each column's token too.
        self.register_buffer("scale", torch.tensor(max(sizes["columns"], 1) ** -0.5))
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, container: Vector) -> Encoding:
        """Encode columns; states carry the summary, so that a hidden column can be decoded."""
        observed = container.observed
        column = torch.arange(observed.shape[1], device=observed.device).expand(observed.shape)
        tokens: Tensor = self.column(column, container.value, observed)
        known = tokens.masked_fill(~observed[..., None], 0.0).sum(1) * self.scale
        summary: Tensor = self.network(known + self.shift)
        return Encoding(
            summary=summary,
            tokens=tokens,
            token_mask=observed,
            states=tokens + summary[:, None],
        )
