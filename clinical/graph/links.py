"""The edges between patients and codes: how likely a patient has each code."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class LinkHead(nn.Module):
    """Log odds that a patient has a code: how common it is, and how the two fit together.

    Fit is the product of what the aspect says of the patient and the code's own embedding, which
    is the one that its encoder reads; so codes of one class in the ontology are alike here too.

    Args:
        width: D of the aspect.
        code_width: E of the codes' embeddings.
        n_codes: V.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {"bias": ("codes",)}
    popularity: Tensor

    def __init__(self, width: int, code_width: int, n_codes: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, code_width))
        self.bias = nn.Parameter(torch.zeros(n_codes))
        # It comes with the codes' statistics, and a network starts from it.
        self.register_buffer("popularity", torch.zeros(n_codes), persistent=False)

    def forward(self, aspect: Tensor, codes: Tensor) -> Tensor:
        """[B, V] log odds, of aspects [B, D] and the embeddings of all codes [V, E]."""
        fit: Tensor = self.project(aspect) @ codes.T / math.sqrt(codes.shape[1])
        return fit + self.popularity + self.bias


class PairHead(nn.Module):
    """How well references fit a sample as its neighbours, as logits among candidates.

    Args:
        width: D of the aspect, and of the memory's rows.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))

    def forward(self, aspect: Tensor, rows: Tensor) -> Tensor:
        """[E, C], of aspects [E, D] and the candidates' rows of the memory [E, C, D]."""
        fit = torch.einsum("ed,ecd->ec", self.project(aspect), rows)
        return fit / math.sqrt(rows.shape[2])


def link_aspect(relations: Mapping[str, str], modalities: Sequence[str]) -> str | None:
    """The aspect that is asked for a patient's codes.

    That of the relation by them, `shares_code`, or one called after the modality where it is not
    configured; None without codes.

    Args:
        relations: name -> kind.
        modalities: names.
    """
    if "codes" not in modalities:
        return None
    return next((name for name, kind in relations.items() if kind == "shares_code"), "codes")


def popularity(statistics: Mapping[str, Any]) -> Tensor:
    """[V] log odds of each code among the train subjects with codes, of the codes' statistics."""
    have = torch.tensor(statistics["subjects"], dtype=torch.float32)
    return torch.log((have + 0.5) / (statistics["n_subjects"] - have + 0.5))
