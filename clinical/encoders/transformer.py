"""A pre-norm transformer over sets of different sizes."""

from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Self-attention, then a two-layer network, each added to its input.

    Attention weights are not dropped: with dropout there, PyTorch leaves its fused kernels, and
    memory would grow with the square of the steps.
    """

    def __init__(self, width: int, *, heads: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.norm_mix = nn.LayerNorm(width)
        self.widen = nn.Linear(width, ratio * width)
        self.narrow = nn.Linear(ratio * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, key_mask: Tensor) -> Tensor:
        """[B, T, D] with `key_mask` [B, 1, 1, T] -> [B, T, D]."""
        size, steps, width = tokens.shape
        parts = self.project(self.norm_attention(tokens))
        parts = parts.view(size, steps, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=key_mask)
        mixed = mixed.transpose(1, 2).reshape(size, steps, width)
        tokens = tokens + self.dropout(self.merge(mixed))
        mixed = functional.gelu(self.widen(self.norm_mix(tokens)), approximate="tanh")
        added: Tensor = tokens + self.dropout(self.narrow(mixed))
        return added


class Transformer(nn.Module):
    """Blocks and a last norm; padding is neither looked at nor meaningful in the output."""

    def __init__(
        self, width: int, *, layers: int, heads: int, ratio: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, ratio=ratio, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D] and `mask` [B, T] -> [B, T, D]; finite wherever the tokens are."""
        # A sample with nothing looks at its padding: attention over nothing would be NaN, and
        # NaN there would reach every parameter's gradient.
        seen = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        if tokens.shape[1]:
            for block in self.blocks:
                tokens = block(tokens, seen)
        normed: Tensor = self.norm(tokens)
        return normed
