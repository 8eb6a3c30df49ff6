"""The additive path: one linear layer over exact summary statistics, cut into pieces."""

from clinical.containers import SUMMARY_STATISTICS
from clinical.encoders.pieces import cut

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn


class WideSummary(nn.Module):
    """One linear layer over each summary statistic cut into pieces, and a missing flag.

    Most of what separates patients are thresholds on single exact statistics. A layer that adds
    them up, its features dropped hard in training, finds these where a deep path does not.
    """

    along: ClassVar[Mapping[str, tuple[str | None, ...]]] = {"linear.weight": (None, "vocabulary")}

    def __init__(self, variables: int, width: int, *, pieces: int, dropout: float) -> None:
        super().__init__()
        self.pieces = pieces
        self.dropout = nn.Dropout(dropout)
        self.places = len(SUMMARY_STATISTICS) * (pieces + 2) + 1  # of a variable
        features = variables * self.places
        self.linear = nn.Linear(features, width)
        nn.init.normal_(self.linear.weight, std=0.1 / max(features, 1) ** 0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, summary: Tensor, observed: Tensor) -> Tensor:
        """[B, V, S] positions, read where `observed` [B, V] -> [B, D]."""
        hidden = ~observed[:, :, None]
        cuts = cut(summary.masked_fill(hidden, 0.0), self.pieces).flatten(2)
        cuts = cuts.masked_fill(hidden, 0.0)
        features = torch.cat((cuts, hidden.to(cuts.dtype)), 2).flatten(1)
        wide: Tensor = self.linear(self.dropout(features))
        return wide
