"""One representation of a patient for each thing that is asked: aspect queries."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

DEAF = 0.1
"""Of a share that is 1 at first."""


class AspectReadout(nn.Module):
    """A learned query per aspect over the trunk, the modality summaries and the messages.

    Beside the attention, every source reaches every aspect linearly, so that a cause that acts
    additively need not pass a softmax. An absent modality is out of the attention and a learned
    state in the linear path; a message without neighbours already is one.

    Args:
        aspects: A names, tasks and relations.
        n_modalities: M.
        n_relations: R.
        width: D.
        heads: attention heads.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "query": ("aspects",),
        "share": ("aspects", "sources"),
        "role": ("sources",),
        "linear": ("sources",),
        "absent": ("modalities",),
    }

    def __init__(
        self,
        aspects: Sequence[str],
        n_modalities: int,
        *,
        n_relations: int,
        width: int,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.aspects = tuple(aspects)
        self.n_modalities = n_modalities
        self.heads = math.gcd(heads, width)
        n_sources = 1 + n_modalities + n_relations
        self.query = nn.Parameter(torch.randn(len(self.aspects), width))
        self.role = nn.Parameter(0.1 * torch.randn(n_sources, width))
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.linear = nn.ModuleList(nn.Linear(width, width) for _ in range(n_sources))
        self.share = nn.Parameter(torch.ones(len(self.aspects), n_sources))
        self.absent = nn.Parameter(0.1 * torch.randn(n_modalities, width))
        self.multiplied = {"share": n_sources**-0.5}

    def forward(
        self, fused: Tensor, summaries: Tensor, present: Tensor, messages: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Answer every aspect.

        Args:
            fused: [B, D].
            summaries: [B, M, D]; anything finite where absent.
            present: [B, M] bool.
            messages: R of [B, D].

        Returns:
            aspect -> [B, D].
        """
        summaries = torch.where(present[..., None], summaries, self.absent)
        sources = torch.cat([fused[:, None], summaries, *(m[:, None] for m in messages)], 1)
        readable = torch.ones(sources.shape[:2], dtype=torch.bool, device=sources.device)
        readable[:, 1 : 1 + self.n_modalities] = present
        answer = self.out(self._attend(sources, readable)) + self._additive(sources)
        return dict(zip(self.aspects, answer.unbind(1), strict=True))

    def scale(self, aspect: str) -> Tensor:
        """[M] how far the linear map of each modality's summary counts in an aspect."""
        share = self.share[self.aspects.index(aspect), 1 : 1 + self.n_modalities]
        return share / math.sqrt(len(self.linear))

    @torch.no_grad()
    def listen(self, aspects: Iterable[str]) -> None:
        """Let aspects read the summaries' linear maps again that they all but stopped reading."""
        for aspect in aspects:
            share = self.share[self.aspects.index(aspect), 1 : 1 + self.n_modalities]
            share.copy_(torch.where(share.abs() < DEAF, 1.0, share))

    def linear_map(self, modality: int) -> nn.Linear:
        """Of a modality's summary, by its number; shared by the aspects."""
        return cast(nn.Linear, self.linear[1 + modality])

    def of_summaries(self, summaries: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Aspect -> [B, D] what the summaries add linearly, absent ones included, without the
        maps' constants."""
        summaries = torch.where(present[..., None], summaries, self.absent)
        mapped = [
            summaries[:, number] @ self.linear_map(number).weight.T
            for number in range(self.n_modalities)
        ]
        return {
            aspect: torch.einsum("m,mbd->bd", self.scale(aspect), torch.stack(mapped))
            for aspect in self.aspects
        }

    def _attend(self, sources: Tensor, readable: Tensor) -> Tensor:
        """[B, A, D] attention of each aspect over the readable sources; the trunk always is."""
        key, value = self.key_value(self.norm(sources) + self.role).chunk(2, -1)
        query = self.query.expand(len(sources), -1, -1)
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value)
        )
        mask = readable[:, None, None]
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.transpose(1, 2).flatten(2)

    def _additive(self, sources: Tensor) -> Tensor:
        """[B, A, D] weighted sum of the sources' linear maps."""
        mapped = torch.stack(
            [linear(source) for linear, source in zip(self.linear, sources.unbind(1), strict=True)],
            1,
        )
        return torch.einsum("as,bsd->bad", self.share / math.sqrt(sources.shape[1]), mapped)
