"""Fusion by attention of a few vectors over the tokens of all modalities."""

from clinical.errors import ConfigError
from clinical.fusion.parts import Parts
from clinical.fusion.together import Together

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class CrossAttentionFusion(nn.Module):
    """One vector a modality, and one that becomes the fused one, read the tokens and each other.

    As in a Perceiver (Jaegle et al., 2021, arXiv:2103.03206) few vectors attend to many tokens, so
    that the cost grows with the number of tokens and not with its square. The vector of a modality
    starts as its summary, or as a learned one where it is absent; the fused one as what all present
    modalities say together. A sample's attention is over its own tokens alone; of a modality that
    is absent none is seen.

    Args:
        widths: D_m of each modality's tokens.
        width: D.
        layers, heads, dropout: of the attention.
        max_tokens: tokens of a modality that are read; of more, the last, which are the newest of
            vitals, notes and images. The summary has seen all of them.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "project": ("modalities",),
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
        max_tokens: int = 256,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(
                f"fusion: width {width} is no multiple of heads {heads}; change either"
            )
        if max_tokens < 1:
            raise ConfigError(f"fusion.max_tokens: {max_tokens} should be at least 1")
        self.max_tokens = max_tokens
        n_modalities = len(widths)
        self.project = nn.ModuleList(nn.Linear(own, width) for own in widths)
        self.modality = nn.Parameter(torch.randn(n_modalities, width) * 0.1)
        self.missing = nn.Parameter(torch.randn(n_modalities, width) * 0.1)
        self.fused = nn.Parameter(torch.randn(width) * 0.1)
        self.together = Together(n_modalities, width)
        self.layers = nn.ModuleList(
            CrossAttentionLayer(width, heads=heads, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, parts: Parts) -> Tensor:
        """[B, D] the parts fused."""
        seen = [
            newest(tokens, mask & present[:, None], most=self.max_tokens)
            for tokens, mask, present in zip(
                parts.tokens, parts.masks, parts.present.unbind(1), strict=True
            )
        ]
        read = [
            project(tokens.masked_fill(~mask[..., None], 0.0)) + modality
            for project, modality, (tokens, mask) in zip(
                self.project, self.modality, seen, strict=True
            )
        ]
        tokens, mask = torch.cat(read, 1), torch.cat([mask for _, mask in seen], 1)
        asking = torch.where(parts.present[..., None], parts.summaries, self.missing)
        asking = asking + self.modality
        start = self.fused + self.together(parts.summaries, parts.present)
        asking = torch.cat((start[:, None], asking), 1)
        for layer in self.layers:
            asking = layer(asking, tokens, mask)
        fused: Tensor = self.norm(asking[:, 0])
        return fused


class CrossAttentionLayer(nn.Module):
    """Vectors attend to tokens and to one another, then a network; norms come first."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.network = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, asking: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """One step.

        Args:
            asking: [B, Q, D].
            tokens: [B, T, D], finite also where not in `mask`; T may be 0.
            mask: [B, T] bool.

        Returns:
            [B, Q, D].
        """
        own = self.norm(asking)
        key, value = self.key_value(torch.cat((own, tokens), 1)).chunk(2, -1)
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.query(own), key, value)
        )
        # Those who ask see one another, so that nobody's softmax is over nothing.
        readable = torch.cat((mask.new_ones(asking.shape[:2]), mask), 1)[:, None, None]
        read = scaled_dot_product_attention(query, key, value, attn_mask=readable)
        asking = asking + self.dropout(self.out(read.transpose(1, 2).flatten(2)))
        answered: Tensor = asking + self.network(asking)
        return answered


def newest(tokens: Tensor, mask: Tensor, *, most: int) -> tuple[Tensor, Tensor]:
    """The last `most` tokens of each sample that stand in its `mask`, in their order.

    Args:
        tokens: [B, T, D].
        mask: [B, T] bool.
        most: at least 1.

    Returns:
        [B, min(T, most), D] and its mask.
    """
    if tokens.shape[1] <= most:
        return tokens, mask
    from_the_end = mask.flip(1).cumsum(1).flip(1)
    kept = mask & (from_the_end <= most)
    place = kept.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return tokens.gather(1, place[..., None].expand(-1, -1, tokens.shape[2])), kept.gather(1, place)
