"""The embedding memory: one row per reference, written all at once and read detached."""

from clinical.batch import Neighbours

from typing import Self

import torch
from torch import Tensor, nn

_BLOCK = 4096


class EmbeddingMemory(nn.Module):
    """Fused summaries of the references, before message passing.

    `replace_all` writes it, from an evaluation pass over unmasked references; training batches
    only read it, and no gradient enters it, so a step costs the same however many references
    there are. It is no part of the state dict: a checkpoint is followed by a refresh, and a
    bundle keeps the rows in a file of their own.

    Rows are read centred and scaled by one number, both taken from the references alone. The
    part that all patients share would otherwise drown what tells neighbourhoods apart, and the
    map stays linear, so that a mean of rows is the row of a mean.

    Args:
        n_rows: N, references.
        width: D, width of the trunk.
    """

    embedding: Tensor
    center: Tensor
    scale: Tensor

    def __init__(self, n_rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embedding", torch.zeros(n_rows, width), persistent=False)
        self.register_buffer("center", torch.zeros(width), persistent=False)
        self.register_buffer("scale", torch.ones(()), persistent=False)
        self.is_filled = n_rows == 0

    def __len__(self) -> int:
        return int(self.embedding.shape[0])

    @torch.no_grad()
    def replace_all(self, embedding: Tensor) -> None:
        """Write every row, `embedding` [N, D] of any float type."""
        if embedding.shape != self.embedding.shape:
            have, want = tuple(embedding.shape), tuple(self.embedding.shape)
            raise ValueError(f"embedding: shape {have} is not {want}, a row a reference")
        self.embedding = embedding.detach().to(self.embedding, copy=True)
        if len(self):
            self.center = self.embedding.mean(0)
            spread = (self.embedding - self.center).square().mean().sqrt()
            self.scale = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
        self.is_filled = True

    def standard(self) -> Tensor:
        """[N, D] all rows, centred and scaled as `read` gives them."""
        assert self.is_filled, "the embedding memory was used before replace_all filled it"
        return (self.embedding - self.center) / self.scale

    def read(self, rows: Tensor) -> Tensor:
        """Rows of the memory, centred and scaled, without a gradient.

        Args:
            rows: [B, K] int64, -1 where there is no neighbour.

        Returns:
            [B, K, D] float32, zeros where there is no neighbour.
        """
        linked = rows >= 0
        assert self.is_filled or not bool(linked.any()), (
            "the embedding memory was read before replace_all filled it"
        )
        if not len(self):
            return self.embedding.new_zeros(*rows.shape, self.embedding.shape[1])
        standard = (self.embedding[rows.clamp_min(0)] - self.center) / self.scale
        return torch.where(linked[..., None], standard, 0.0)

    @torch.no_grad()
    def means(self, edges: Neighbours) -> Tensor:
        """[n, D] weighted mean of the rows of a sample's neighbours; zeros without any.

        Args:
            edges: of any number of samples, on any device; they are read block by block.
        """
        device = self.embedding.device
        found = torch.zeros(len(edges.rows), self.embedding.shape[1], device=device)
        for some in torch.arange(len(found)).split(_BLOCK):
            rows, weight = edges.rows[some].to(device), edges.weight[some].to(device)
            weight = torch.where(rows >= 0, weight, 0.0)
            share = weight / weight.sum(1, keepdim=True).clamp_min(1e-9)
            found[some] = torch.einsum("bk,bkd->bd", share, self.read(rows))
        return found

    def holding(self, embedding: Tensor) -> Self:
        """A new memory of other rows, centred and scaled as these are.

        Scoring reads so from the references and the contemporaries of a new cohort, without
        touching the model's own memory, and the contemporaries move nobody's centre.

        Args:
            embedding: [any number of rows, D].
        """
        assert self.is_filled, "the embedding memory was used before replace_all filled it"
        other = type(self)(0, self.embedding.shape[1])
        other.embedding = embedding.detach().to(self.embedding)
        other.center, other.scale = self.center, self.scale
        return other
