"""What all present modalities say together, however loud each of them is."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm


def evened(summaries: Tensor, present: Tensor) -> Tensor:
    """[B, M, D] summaries, each of mean 0 and variance 1 (a constant one stays 0); 0 where not
    `present` [B, M].

    Encoders end without a norm, so that what they add up stays additive, and one may say in tens
    what another says in hundredths. Fused as they are, the loud one would be all that is heard.
    """
    heard = summaries.masked_fill(~present[..., None], 0.0)
    even = layer_norm(heard.float(), heard.shape[-1:], eps=1e-10)
    return even.to(heard) * present[..., None]


class Together(nn.Module):
    """The sum of a linear map of each present modality's evened summary.

    A fusion that begins with it loses no modality, whatever its attention learns to look at.

    Args:
        n_modalities: M.
        width: D.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {"project": ("modalities",)}

    def __init__(self, n_modalities: int, width: int) -> None:
        super().__init__()
        scale = (n_modalities * width) ** -0.5
        self.project = nn.Parameter(torch.randn(n_modalities, width, width) * scale)

    def forward(self, summaries: Tensor, present: Tensor) -> Tensor:
        """[B, M, D], [B, M] -> [B, D]."""
        said: Tensor = torch.einsum("bmd,mde->be", evened(summaries, present), self.project)
        return said
