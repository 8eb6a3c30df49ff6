"""Finding what belongs to a sample among what belongs to other subjects of the batch."""

from clinical.batch import ClinicalBatch
from clinical.objectives.objective import Objective, ReferenceEdges

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

FIRST_SCALE = 1 / 0.07
LARGEST_SCALE = 100.0
"""As in CLIP (Radford et al., 2021, arXiv:2103.00020): beyond it training is unstable."""
LEAST_GUESSING = math.log(2) / 2
"""Less than any choice costs, so that dividing by it changes nothing where there is one."""


def surprise(query: Tensor, key: Tensor, own: Tensor, fits: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy [n], in nats, of each query's own key among those that fit it.

    Args:
        query: [n, W].
        key: [N, W].
        own: [n] int64, the row of its key.
        fits: [n, N] bool, the keys among which it is; always its own.
        scale: [] by which the cosines are multiplied, an inverse temperature.
    """
    # In half precision cosines times a hundred would be known to a few tenths.
    with torch.autocast(query.device.type, enabled=False):
        cosine = normalize(query.float(), dim=1) @ normalize(key.float(), dim=1).T
        chances = (scale.float() * cosine).masked_fill(~fits, -torch.inf).log_softmax(1)
    return -chances.gather(1, own[:, None])[:, 0]


def guessing(fits: Tensor) -> Tensor:
    """[] what who knows nothing pays over [n, N] candidates, in nats; 0 without any choice."""
    return fits.sum(1).clamp_min(1).log().sum()


class Scale(nn.Module):
    """A learned inverse temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    def forward(self) -> Tensor:
        """[] the scale, at most LARGEST_SCALE."""
        # Not `clamp`, past which the parameter would never come back.
        return torch.exp(self.log - (self.log - math.log(LARGEST_SCALE)).clamp_min(0).detach())


class Contrastive(Objective):
    """An objective whose candidates are samples of other subjects in the batch."""

    subject: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Numbers of patients are no part of the weights.
        self.register_buffer("subject", torch.zeros(0, dtype=torch.int64), persistent=False)

    def use_references(self, references: ReferenceEdges) -> None:
        """Take note of who is who; until then every sample is a subject of its own."""
        self.subject = references.subject.to(self.subject.device)

    def subjects(self, batch: ClinicalBatch) -> Tensor:
        """[B] a number for the subject of each sample."""
        return self.subject[batch.row] if len(self.subject) else batch.row


def candidates(subject: Tensor, asking: Tensor) -> Tensor:
    """[n, N] bool: which of the samples are candidates for those `asking`, [n] rows of them.

    Every sample of another subject, and the sample itself; another sample of the same subject is
    neither wrong nor right.
    """
    fits = subject[asking][:, None] != subject
    fits[torch.arange(len(asking), device=fits.device), asking] = True
    return fits
