"""Times as vectors, rows gathered by sample, and attention that pools a sample's parts."""

import math

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """Hours before the prediction time as a vector: waves of log-spaced periods and a logarithm.

    Args:
        width: D.
        shortest_hours, longest_hours: the periods' range.
        waves: how many periods.
    """

    def __init__(
        self, width: int, *, shortest_hours: float, longest_hours: float, waves: int = 12
    ) -> None:
        super().__init__()
        periods = torch.logspace(math.log10(shortest_hours), math.log10(longest_hours), waves)
        self.register_buffer("rate", 2 * math.pi / periods, persistent=False)
        self.rate: Tensor
        self.project = nn.Linear(2 * waves + 1, width)

    def forward(self, time_hours: Tensor) -> Tensor:
        """[...] hours -> [..., D]."""
        angle = time_hours[..., None] * self.rate
        log = time_hours.clamp(min=0).log1p()[..., None]
        embedded: Tensor = self.project(torch.cat((angle.sin(), angle.cos(), log), -1))
        return embedded


def sometimes_unknown(rows: Tensor, share: float, *, training: bool) -> Tensor:
    """Rows [R] of a vocabulary, in training a `share` of them 0, so that an unknown one means
    something."""
    if not training or not share:
        return rows
    return rows.masked_fill(torch.rand(rows.shape, device=rows.device) < share, 0)


def stack_rows(rows: Tensor, sample: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Gather the rows of each sample side by side.

    Every row goes to a place of its own, so nothing is summed and the result is the same on
    every run, on any device.

    Args:
        rows: [R, ...].
        sample: [R] int64, ascending.
        size: B.

    Returns:
        [B, T, ...] with T the most rows of one sample and zeros where a sample has fewer, and the
        mask [B, T].
    """
    count = torch.bincount(sample, minlength=size)
    steps = int(count.max()) if len(sample) else 0
    first = count.cumsum(0) - count
    place = torch.arange(len(sample), device=sample.device) - first[sample]
    stacked = rows.new_zeros((size, steps, *rows.shape[1:]))
    stacked = stacked.index_put((sample, place), rows)
    mask = torch.arange(steps, device=sample.device) < count[:, None]
    return stacked, mask


def mean_rows(rows: Tensor, sample: Tensor, size: int) -> Tensor:
    """[R, ...] -> [B, ...] the mean over each sample's rows, see `stack_rows`; 0 without any."""
    stacked, mask = stack_rows(rows, sample, size)
    count = mask.sum(1).clamp_min(1).to(rows.dtype)
    mean: Tensor = stacked.sum(1) / count.view(-1, *[1] * (rows.dim() - 1))
    return mean


class AttentionPooling(nn.Module):
    """Pools a sample's parts by attention with one learned query per head.

    With a fixed query, keys and values need no projection of their own: the query is folded into
    the scores' weights, and the values' weights are applied after pooling.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, heads, bias=False)  # softmax would cancel a bias
        self.merge = nn.Linear(heads * width, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool.

        Args:
            tokens: [B, T, D], finite also where `mask` is false; T may be 0.
            mask: [B, T] bool.

        Returns:
            [B, D]; the same constant for every sample without a part.
        """
        score = self.score(tokens).transpose(1, 2)
        hidden = ~mask[:, None]
        # The lowest finite number and a second masking, since softmax over nothing but -inf is NaN.
        share = score.masked_fill(hidden, torch.finfo(score.dtype).min).softmax(-1)
        share = share.masked_fill(hidden, 0.0)
        pooled: Tensor = self.merge((share @ tokens).flatten(1))
        return pooled
