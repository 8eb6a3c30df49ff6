"""Pre-norm transformers over sets of different sizes.

Attention weights are never dropped: with dropout there, PyTorch leaves its fused kernels, and time
and memory grow several-fold.
"""

from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention from some tokens to others."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """[B, T, D] looks at context [B, C, D] where `mask` [B, 1, 1, C] -> [B, T, D]."""
        query = self.query(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
        both = self.key_value(context).unflatten(2, (2, self.heads, -1))
        key, value = both.permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        merged: Tensor = self.merge(found.transpose(1, 2).flatten(2))
        return merged


class FeedForward(nn.Sequential):
    """Norm and a two-layer network, part by part; what it gives is added to its input."""

    def __init__(self, width: int, *, dropout: float, ratio: int = 2) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, ratio * width),
            nn.GELU(approximate="tanh"),
            nn.Linear(ratio * width, width),
            nn.Dropout(dropout),
        )


class Layer(nn.Module):
    """Attention, then a two-layer network, each added to its input."""

    def __init__(self, width: int, *, heads: int, dropout: float, ratio: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads)
        self.dropout = nn.Dropout(dropout)
        self.network = FeedForward(width, dropout=dropout, ratio=ratio)

    def forward(
        self, tokens: Tensor, *, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, T, D] looks at `context` [B, C, D], normed already, or at itself -> [B, T, D]."""
        normed = self.norm(tokens)
        context = normed if context is None else context
        tokens = tokens + self.dropout(self.attention(normed, context, mask))
        added: Tensor = tokens + self.network(tokens)
        return added


def _readable(mask: Tensor) -> Tensor:
    """[B, 1, 1, T]: a sample with nothing looks at its padding.

    Attention over nothing would be NaN, and would reach every parameter's gradient.
    """
    return (mask | ~mask.any(1, keepdim=True))[:, None, None]


class FullTransformer(nn.Module):
    """Every part looks at every other, in each layer: the cost grows with the square of T."""

    def __init__(self, width: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(width, heads=heads, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Contextualise.

        Args:
            tokens: [B, T, D], finite also where `mask` is false; T may be 0.
            mask: [B, T] bool.

        Returns:
            The parts [B, T, D]; and what a summary should pool, here the same, with its mask.
        """
        if tokens.shape[1]:
            readable = _readable(mask)
            for layer in self.layers:
                tokens = layer(tokens, mask=readable)
        tokens = self.norm(tokens)
        return tokens, tokens, mask


class LatentTransformer(nn.Module):
    """A few learned latents read the parts, look at each other, and are read by the parts.

    The cost grows with T, not with its square (Jaegle et al., 2021, arXiv:2107.14795).
    """

    def __init__(
        self, width: int, *, latents: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(nn.init.normal_(Tensor(latents, width)))
        self.norm_parts = nn.LayerNorm(width)
        self.read = Layer(width, heads=heads, dropout=dropout)
        self.layers = nn.ModuleList(
            Layer(width, heads=heads, dropout=dropout) for _ in range(layers)
        )
        self.norm_latents = nn.LayerNorm(width)
        # Over T parts dropout would cost more than the layer itself.
        self.write = Layer(width, heads=heads, dropout=0.0)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Contextualise.

        Args:
            tokens: [B, T, D], finite also where `mask` is false; T may be 0.
            mask: [B, T] bool.

        Returns:
            The parts [B, T, D]; and what a summary should pool, the latents, with their mask.
        """
        latents = self.latents.expand(len(tokens), -1, -1)
        if tokens.shape[1]:
            latents = self.read(latents, context=self.norm_parts(tokens), mask=_readable(mask))
        for layer in self.layers:
            latents = layer(latents)
        latents = self.norm_latents(latents)
        parts = self.norm(self.write(tokens, context=latents))
        return parts, latents, mask.new_ones(latents.shape[:2])
