"""Weights of losses by their uncertainty (Kendall, Gal & Cipolla, 2018, arXiv:1705.07115)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

DECAY = 0.98
"""Of the running mean of each loss, a batch: some fifty batches say what is usual."""


class Balance(nn.Module):
    """One uncertainty an objective: what its loss usually is, by which it is divided.

    Of a loss L with the configured weight w and a log variance s, w (L e^-s + s) is to be least,
    which it is where e^s is the mean of L: there each objective counts w, whatever the units of its
    loss. The mean is kept as it runs, the present batch included, and no step is taken towards it:
    at a network's learning rate a first loss that happened to be small would outweigh the others
    for the whole training, and its gradient would be clipped together with theirs.

    Where nothing of an objective was asked in a batch, its loss is 0 and says nothing of the mean.

    Args:
        names: of the objectives, whose order is part of the state.
    """

    total: Tensor
    weight: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("total", torch.zeros(len(self.names)))
        self.register_buffer("weight", torch.zeros(len(self.names)))

    @torch.no_grad()
    def note(self, losses: Mapping[str, Tensor]) -> None:
        """Take the losses of a batch into the means; name -> []."""
        loss = self._stacked(losses)
        asked = (loss > 0).float() * (1 - DECAY)
        self.total.lerp_(loss, asked)
        self.weight.lerp_(torch.ones_like(loss), asked)

    def shares(self) -> dict[str, Tensor]:
        """Name -> [] by which a loss is multiplied beside its configured weight; no gradient.

        1 for an objective of which nothing was asked so far.
        """
        has_mean = self.weight > 0
        mean = torch.where(has_mean, self.total / self.weight.clamp_min(1e-12), 1.0)
        return dict(zip(self.names, 1 / mean.clamp_min(1e-12), strict=True))

    def forward(self, losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
        """[] to be minimised by the network; name -> [], name -> w."""
        shares = self.shares()
        balanced = [weights[name] * shares[name] * losses[name].float() for name in self.names]
        return torch.stack(balanced).sum()

    def _stacked(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([losses[name].float() for name in self.names])
