"""Prototypical heads: a class is the mean of its patients (Snell et al., 2017, arXiv:1703.05175).

A logit is a learned positive temperature times minus the squared distance between a sample's aspect
and a class's prototype, the mean aspect of some patients. In training these are of an episode: some
patients support the prototypes, and others ask. To score they are all labelled train samples
(`clinical.training.prototypes`), and are part of the weights, so that no score depends on a batch.

Episodes have as many patients of each class, and learn how likely a patient is within each. What
share of train a class is counts in a score beside that (Bayes): a rare outcome would otherwise be
called as likely as its absence, and a calibration on a few dozen people corrects only so much.
"""

from clinical.answers import Answer
from clinical.batch import Target
from clinical.heads.head import Head
from clinical.heads.losses import binary_loss, known_auroc, multiclass_loss

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

BEHIND = 30.0
"""How far a class without a prototype is behind the least likely of the others: never predicted,
and finite."""


class PrototypicalHead(Head):
    """Near is likely.

    Args:
        width: D of the aspect.
        answer: of the task.
    """

    prototype: Tensor
    share: Tensor

    def __init__(self, width: int, answer: Answer) -> None:
        super().__init__()
        n_classes = answer.shape[0] if answer.shape else 2
        self.log_temperature = nn.Parameter(torch.tensor(-math.log(width)))
        self.register_buffer("prototype", torch.zeros(n_classes, width))
        self.register_buffer("share", torch.zeros(n_classes))

    @property
    def n_classes(self) -> int:
        """C; of a binary task 2, no and yes."""
        return len(self.share)

    def compare(self, aspect: Tensor, prototype: Tensor, share: Tensor) -> Tensor:
        """[B, C] how likely each class is, as the logarithm of a probability plus a constant.

        Args:
            aspect: [B, D].
            prototype: [C, D].
            share: [C] of each class, all on one scale; 0 if it has no prototype.
        """
        # In full precision: a difference of squares is far less exact than either.
        apart = aspect.to(prototype.dtype)[:, None] - prototype
        near = -self.log_temperature.exp() * apart.square().sum(2)
        known = share > 0
        if not known.any():
            return near * 0  # with a gradient of zero
        said = near + share.clamp_min(torch.finfo(share.dtype).tiny).log()
        last = said.masked_fill(~known, math.inf).amin(1, keepdim=True)
        return torch.where(known, said, last - BEHIND)

    def log_likely(self, aspect: Tensor) -> Tensor:
        """[B, C] of the prototypes of train."""
        return self.compare(aspect, self.prototype, self.share)

    def episode_loss(self, aspect: Tensor, target: Target, supports: Tensor) -> Tensor:
        """Mean cross-entropy of those who ask, of which each class counts alike; 0 of nobody.

        Args:
            aspect: [B, D].
            target: [B] the places of the classes, read where observed.
            supports: [B] bool, whose aspects make the prototypes; the others ask. Nobody asks whose
                class nobody supports.
        """
        is_class = classes_of(target, self.n_classes).to(self.prototype.dtype)
        support = is_class * supports[:, None]
        count = support.sum(0)
        with torch.autocast(aspect.device.type, enabled=False):
            total = support.T @ aspect.to(support.dtype)
        prototype = total / count.clamp_min(1)[:, None]
        logits = self.compare(aspect, prototype, (count > 0).to(count.dtype))
        asks = is_class * ~supports[:, None] * (count > 0)
        weight = (asks / asks.sum(0).clamp_min(1)).sum(1)
        loss = functional.cross_entropy(logits, is_class.argmax(1), reduction="none")
        return (loss * weight).sum() / weight.sum().clamp_min(1)

    @torch.no_grad()
    def set_temperature(self, value: float) -> None:
        """Of a squared distance; positive."""
        self.log_temperature.fill_(math.log(value))

    @torch.no_grad()
    def remember(self, total: Tensor, count: Tensor) -> None:
        """Take the prototypes that score: total [C, D] of the aspects, of count [C] samples."""
        mean = total / count.clamp_min(1)[:, None]
        self.prototype.copy_(mean)
        self.share.copy_(count / count.sum().clamp_min(1))


def classes_of(target: Target, n_classes: int) -> Tensor:
    """[B, C] bool: who is known to be of which class."""
    place = target.value.masked_fill(~target.observed, 0.0).long()
    return functional.one_hot(place, n_classes).bool() & target.observed[:, None]


class PrototypicalBinaryHead(PrototypicalHead):
    """One logit: how much nearer yes is than no."""

    def forward(self, aspect: Tensor) -> Tensor:
        no, yes = self.log_likely(aspect).unbind(1)
        return yes - no

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return binary_loss(logits, target)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        return target.value[:, None], target.observed[:, None]

    def auroc(self, logits: Tensor, target: Target) -> Tensor | None:
        return known_auroc(logits, target)


class PrototypicalMulticlassHead(PrototypicalHead):
    """One logit a class, of which one is true."""

    def forward(self, aspect: Tensor) -> Tensor:
        return self.log_likely(aspect)

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return multiclass_loss(logits, target)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        is_class = classes_of(target, self.n_classes)
        return is_class.to(target.value.dtype), target.observed[:, None].expand_as(is_class)
