"""What stands above a code: rare codes borrow from the classes that they are special cases of."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag


class Ontology(nn.Module):
    """Which codes of a vocabulary are special cases of which; at first none is.

    It is no part of the state dict, since it comes with the codes' statistics.

    Args:
        n_codes: V.
    """

    code: Tensor
    ancestor: Tensor
    start: Tensor

    def __init__(self, n_codes: int) -> None:
        super().__init__()
        self.n_codes = n_codes
        for name, size in (("code", 0), ("ancestor", 0), ("start", n_codes)):
            self.register_buffer(name, torch.zeros(size, dtype=torch.int64), persistent=False)

    def set_ancestors(self, ancestors: Sequence[Sequence[int]]) -> None:
        """Say for every code the rows of all its ancestors.

        Raises:
            ValueError: it is about another vocabulary.
        """
        if len(ancestors) != self.n_codes:
            raise ValueError(f"ancestors: {len(ancestors)} rows for {self.n_codes} codes")
        count = torch.tensor([len(rows) for rows in ancestors], dtype=torch.int64)
        above = torch.tensor([row for rows in ancestors for row in rows], dtype=torch.int64)
        if len(above) and not 0 <= int(above.min()) <= int(above.max()) < self.n_codes:
            raise ValueError("ancestors: a row is outside the vocabulary")
        device = self.start.device
        self.code = torch.arange(self.n_codes).repeat_interleave(count).to(device)
        self.ancestor = above.to(device)
        self.start = (count.cumsum(0) - count).to(device)

    def above(self, owned: Tensor) -> Tensor:
        """[B, V] bool: an ancestor of a code `owned` [B, V] bool."""
        return _reached(owned, self.code, self.ancestor)

    def below(self, owned: Tensor) -> Tensor:
        """[B, V] bool: a special case of a code `owned` [B, V] bool."""
        return _reached(owned, self.ancestor, self.code)

    def mean_above(self, weight: Tensor) -> Tensor:
        """[V, D] mean of the ancestors' rows of `weight` [V, D]; zeros for a code without any."""
        if not len(self.ancestor):
            return torch.zeros_like(weight)
        return embedding_bag(self.ancestor, weight, self.start, mode="mean")


class CodeEmbedding(nn.Embedding):
    """A vector a code: its own part, and the mean of its ancestors' own parts.

    A code that training hardly saw is what its classes are; one that it saw often differs from
    them as far as that helps.

    Args:
        n_codes: V.
        width: D.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {"weight": ("vocabulary",)}

    def __init__(self, n_codes: int, width: int) -> None:
        super().__init__(n_codes, width)
        self.ontology = Ontology(n_codes)

    def table(self) -> Tensor:
        """[V, D] the vectors of all codes."""
        return self.weight + self.ontology.mean_above(self.weight)

    @torch.no_grad()
    def begin_as(self, vectors: Tensor, is_known: Tensor) -> None:
        """Let `table` say of some codes what it said of them under another ontology.

        The own part of an ancestor that is not among them becomes zero: it adds nothing to what is
        known of its special cases.

        Args:
            vectors: [V, D] wanted vectors; anything finite where not known.
            is_known: [V] bool.
        """
        ontology, own = self.ontology, self.weight
        above = ontology.above(is_known[None])[0]
        own[above & ~is_known] = 0.0
        n_ancestors = torch.bincount(ontology.code, minlength=len(own))
        # An ancestor has fewer ancestors than its special cases, so that it is settled before them.
        for count in n_ancestors[is_known].unique():
            rows = is_known & (n_ancestors == count)
            own[rows] = vectors[rows] - ontology.mean_above(own)[rows]

    def forward(self, codes: Tensor) -> Tensor:
        """[...] rows of the vocabulary -> [..., D]."""
        return embedding(codes, self.table())


def owned(code: Tensor, mask: Tensor, n_codes: int) -> Tensor:
    """[B, V] bool: which codes a sample has, of rows `code` [B, T] where `mask`."""
    count = torch.zeros(len(code), n_codes, device=code.device)
    return count.scatter_add(1, code, mask.to(count.dtype)) > 0


def _reached(owned: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """[B, V] bool: there is a way from a code `owned` over the pairs `start`, `end` [E]."""
    count = torch.zeros(owned.shape, device=owned.device)
    return count.index_add(1, end, owned[:, start].to(count.dtype)) > 0
