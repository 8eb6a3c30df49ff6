"""Encoder of codes without a number: diagnoses, drugs, procedures."""

from clinical.containers import CodeSet
from clinical.encoders.encoding import Encoder, Encoding
from clinical.encoders.ontology import CodeEmbedding
from clinical.encoders.pooling import AttentionPooling, TimeEmbedding

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class BagEncoder(Encoder):
    """Attention over the codes, and beside it a sum in which each code counts on its own.

    In both a code is itself and a case of its classes in the ontology. The codes are nodes of the
    graph, and this is the message along the edges from them to a sample.

    Args:
        sizes: `codes`.
        width: D.
        heads: of the attention pooling.
        dropout: share of a code's embedding, and of the codes in the sum, dropped in training.
    """

    def __init__(
        self, sizes: Mapping[str, int], *, width: int = 64, heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.width = width
        self.code_embedding = CodeEmbedding(sizes["codes"], width)
        self.time = TimeEmbedding(width, shortest_hours=24.0, longest_hours=20 * 365.25 * 24)
        self.dropout = nn.Dropout(dropout)
        self.pool = AttentionPooling(width, heads=heads)
        self.norm = nn.LayerNorm(width)
        # A table of its own, since what a code adds to the outcome is not what it is alike to.
        self.weight = CodeEmbedding(sizes["codes"], width)
        nn.init.normal_(self.weight.weight, std=0.02)

    def use_statistics(self, statistics: Mapping[str, Any]) -> None:
        """Read the ontology."""
        for table in (self.code_embedding, self.weight):
            table.ontology.set_ancestors(statistics["parents"])

    def forward(self, container: CodeSet) -> Encoding:
        """Encode codes."""
        mask = container.mask
        hours = container.time_hours.masked_fill(~mask, 0.0)
        tokens: Tensor = self.dropout(self.code_embedding(container.code)) + self.time(hours)
        counted = self.dropout(mask.to(tokens.dtype))
        total = (counted[:, None] @ self.weight(container.code))[:, 0]
        summary = self.norm(self.pool(tokens, mask)) + total
        return Encoding(summary=summary, tokens=tokens, token_mask=mask, states=tokens)
