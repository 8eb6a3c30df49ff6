"""Fusion by attention among the modalities' summaries."""

from clinical.errors import ConfigError
from clinical.fusion.parts import Parts
from clinical.fusion.together import Together

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn


class AttentionFusion(nn.Module):
    """A light transformer over one token a modality and one that becomes the fused vector.

    The latter starts as what all present modalities say together, and learns from attention what
    they say in each other's company.

    An absent modality is a learned token of its own, so that absence can be informative and any
    subset of modalities scores.

    Args:
        widths: of the modalities' tokens, which it does not read; as many as modalities.
        width: D.
        layers, heads, dropout: of the transformer.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "modality": ("modalities",),
        "missing": ("modalities",),
    }

    def __init__(
        self,
        widths: Sequence[int],
        width: int,
        *,
        layers: int = 1,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        n_modalities = len(widths)
        if heads < 1 or width % heads:
            raise ConfigError(
                f"fusion: width {width} is no multiple of heads {heads}; change either"
            )
        self.modality = nn.Parameter(torch.randn(n_modalities, width) * 0.1)
        self.missing = nn.Parameter(torch.randn(n_modalities, width) * 0.1)
        self.fused = nn.Parameter(torch.randn(width) * 0.1)
        self.together = Together(n_modalities, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                2 * width,
                dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, parts: Parts) -> Tensor:
        """[B, D] the parts' summaries fused."""
        summaries, present = parts.summaries, parts.present
        tokens = torch.where(present[..., None], summaries, self.missing) + self.modality
        start = self.fused + self.together(summaries, present)
        tokens = torch.cat((start[:, None], tokens), 1)
        for layer in self.layers:
            tokens = layer(tokens)
        fused: Tensor = self.norm(tokens[:, 0])
        return fused
