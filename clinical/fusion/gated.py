"""Late fusion by a gate over the modalities that are there."""

from clinical.fusion.parts import Parts
from clinical.fusion.together import evened

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """Weighs the present modalities' projected summaries; the weights of a sample add up to one.

    An absent modality has no weight, and adds a learned vector of its own, so that absence can be
    informative.

    Args:
        widths: of the modalities' tokens, which it does not read; as many as modalities.
        width: D.
        dropout: of the projected summaries.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "project": ("modalities",),
        "shift": ("modalities",),
        "missing": ("modalities",),
        "gate": ("modalities",),
        "bias": ("modalities",),
    }

    def __init__(self, widths: Sequence[int], width: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        n_modalities = len(widths)
        self.project = nn.Parameter(torch.randn(n_modalities, width, width) * width**-0.5)
        self.shift = nn.Parameter(torch.zeros(n_modalities, width))
        self.missing = nn.Parameter(torch.randn(n_modalities, width) * 0.1)
        self.gate = nn.Parameter(torch.randn(n_modalities, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(n_modalities))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, parts: Parts) -> Tensor:
        """[B, D] the parts' summaries fused."""
        present = parts.present
        absent = ~present
        summaries = evened(parts.summaries, present)
        score = (summaries * self.gate).sum(-1) + self.bias
        # The lowest finite number and a second masking: with nothing present -inf would give NaN.
        share = score.masked_fill(absent, torch.finfo(score.dtype).min).softmax(1)
        share = share.masked_fill(absent, 0.0)
        value = torch.einsum("bmd,mde->bme", summaries, self.project) + self.shift
        fused = (share[:, None] @ self.dropout(value))[:, 0] + absent.to(score.dtype) @ self.missing
        normed: Tensor = self.norm(fused)
        return normed
