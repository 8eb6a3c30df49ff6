"""Piecewise-linear embedding of positions (Gorishniy et al., 2022, arXiv:2203.05556).

A position is where a number stands among the train split's values of its variable: 0 to 1, and
linear beyond to -1 and 2. Positions are quantiles already, so the pieces are of equal length:
`pieces` of them between 0 and 1, and one for each tail.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


def cut(position: Tensor, pieces: int) -> Tensor:
    """How far a position fills each piece, less what the average train value fills of it.

    With the average taken off, a feature set to zero (missing, or dropped in training) stands for
    an average value instead of the lowest one.

    Args:
        position: [...], finite.
        pieces: number of pieces between 0 and 1.

    Returns:
        [..., pieces + 2], the tails first and last.
    """
    start = torch.arange(pieces, dtype=position.dtype, device=position.device)
    inner = (position[..., None] * pieces - start).clamp(0, 1)
    average = 1 - (start + 0.5) / pieces
    low = position.clamp(-1, 0)[..., None]
    high = (position - 1).clamp(0, 1)[..., None]
    return torch.cat((low, inner - average, high), -1)


class PieceTable(nn.Module):
    """Embeds (variable, position) pairs by a piecewise-linear curve in width D per variable.

    The curve is stored by its slopes, so that one value teaches all pieces below it, and read by
    looking up its two knots around the position: the cost does not depend on the number of pieces.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "variable": ("vocabulary",),
        "slope": ("vocabulary",),
    }

    def __init__(self, variables: int, width: int, *, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.variable = nn.Parameter(torch.randn(variables, width))
        self.slope = nn.Parameter(torch.randn(variables, pieces + 2, width) / pieces**0.5)
        self.hidden = nn.Parameter(torch.randn(width))
        with torch.no_grad():  # a tail holds few train values: flat until they say otherwise
            self.slope[:, [0, -1]] = 0.0

    def table(self) -> Tensor:
        """[V, pieces + 4, D]: the curve at its knots, then what stands for a hidden value."""
        knots = torch.cat((torch.zeros_like(self.slope[:, :1]), self.slope.cumsum(1)), 1)
        # Taken off at the middle of the train values, so that `variable` is a usual value.
        knots = knots - knots[:, 1:-1].mean(1, keepdim=True)
        hidden = self.hidden.expand(len(self.variable), 1, -1)
        return torch.cat((knots, hidden), 1) + self.variable[:, None]

    def forward(self, variable: Tensor, position: Tensor, observed: Tensor) -> Tensor:
        """Embed.

        Args:
            variable: [...] int64.
            position: [...]; anything, NaN too, where `observed` is false.
            observed: [...] bool; false gives the learned state of a hidden value.

        Returns:
            [..., D].
        """
        table = self.table().flatten(0, 1)
        position = position.masked_fill(~observed, 0.0).clamp(-1, 2)
        scaled = position.clamp(0, 1) * self.pieces
        piece = scaled.floor().clamp(max=self.pieces - 1)
        share = scaled - piece
        low, high = position < 0, position > 1
        share = torch.where(low, position + 1, torch.where(high, position - 1, share))
        piece = torch.where(low, -1.0, torch.where(high, float(self.pieces), piece))
        knot = piece.long() + 1
        knot = knot.masked_fill(~observed, self.pieces + 3)
        first = variable * (self.pieces + 4) + knot
        # A hidden value has one row, not two ends: both ends are that row.
        last = first + observed.long()
        # An embedding bag gathers, weighs and adds in one go; autograd needs no [..., 2, D].
        weights = torch.stack((1 - share, share), -1).to(table.dtype)
        rows = torch.stack((first, last), -1)
        bags = functional.embedding_bag(
            rows.view(-1, 2), table, per_sample_weights=weights.view(-1, 2), mode="sum"
        )
        return bags.view(*variable.shape, table.shape[1])
