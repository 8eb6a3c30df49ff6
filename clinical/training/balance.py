"""Weights of several losses, learned (Kendall, Gal & Cipolla, 2018, arXiv:1705.07115)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Balance(nn.Module):
    """One learned uncertainty an objective: what its loss usually is, by which it is divided.

    Of a loss L with the configured weight w and the learned log variance s, w (L e^-s + s) is
    minimised: least where e^s = L, so that there each objective counts w, whatever the units of its
    loss. The configured weight stands before both terms, or s would undo it.

    s begins as the logarithm of the first loss there is, rather than at 0: at a network's learning
    rate a loss of 7 nats would be outweighing others for a thousand steps. Where nothing of an
    objective was asked in a batch, its loss is 0 and says nothing of s.

    Args:
        names: of the objectives, whose order is part of the weights.
    """

    has_begun: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))
        self.register_buffer("has_begun", torch.zeros(len(self.names), dtype=torch.bool))

    @torch.no_grad()
    def begin(self, losses: Mapping[str, Tensor]) -> None:
        """Take the first losses there are for usual; name -> []."""
        first = self._stacked(losses)
        new = ~self.has_begun & (first > 0)
        self.log_variance.copy_(torch.where(new, first.clamp_min(1e-6).log(), self.log_variance))
        self.has_begun |= new

    def shares(self) -> dict[str, Tensor]:
        """Name -> [] by which a loss is multiplied beside its configured weight; no gradient."""
        return dict(zip(self.names, (-self.log_variance.detach()).exp(), strict=True))

    def forward(self, losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
        """[] to be minimised by the network and by the log variances; name -> [], name -> w."""
        loss = self._stacked(losses)
        weight = loss.new_tensor([weights[name] for name in self.names])
        uncertain = torch.where(loss.detach() > 0, self.log_variance, 0.0)
        return (weight * (loss * (-self.log_variance).exp() + uncertain)).sum()

    def _stacked(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([losses[name].float() for name in self.names])
