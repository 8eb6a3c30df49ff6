"""Heads: from a task's aspect to its logits, and their loss.

What scores the logits become is told by the task's answer (`clinical.answers`), without torch.
Every loss is a mean over what is known, and zero, with a gradient of zero, where nothing is.
"""

from clinical.answers import Answer, Regression, TimeToEvent
from clinical.batch import Target
from clinical.config import TaskKind

from abc import abstractmethod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.classification import binary_auroc

HUBER_SD = 3.0
"""Standard deviations beyond which an error counts linearly: one wrong entry moves no model."""


def binary_loss(logits: Tensor, target: Target) -> Tensor:
    """Mean binary cross-entropy of the labels that are known.

    Args:
        logits: [B], or [B, C] for the classes of a multilabel task.
        target: 0 or 1 of the same shape, read where observed.
    """
    observed = target.observed
    value = target.value.masked_fill(~observed, 0.0).to(logits.dtype)
    loss = functional.binary_cross_entropy_with_logits(logits, value, reduction="none")
    return _mean(loss, observed)


def multiclass_loss(logits: Tensor, target: Target) -> Tensor:
    """Mean cross-entropy of logits [B, C]; a target is the place of its class."""
    observed = target.observed
    place = target.value.masked_fill(~observed, 0.0).long()
    return _mean(functional.cross_entropy(logits, place, reduction="none"), observed)


def regression_loss(logits: Tensor, target: Target, *, mean: float, sd: float) -> Tensor:
    """Mean Huber loss of logits [B] in standard deviations from the mean; targets in the unit."""
    observed = target.observed
    value = ((target.value - mean) / sd).masked_fill(~observed, 0.0).to(logits.dtype)
    loss = functional.huber_loss(logits, value, reduction="none", delta=HUBER_SD)
    return _mean(loss, observed)


def hazard_loss(logits: Tensor, target: Target, edges: Tensor) -> Tensor:
    """Mean negative log likelihood of discrete hazards (Gensheimer & Narasimhan, 2019).

    A sample has come through the intervals that end before its hours; the one in which its event
    lies had the event. Censored, it has also come through the interval in which it was last seen
    if that was in the second half; otherwise that interval says nothing.

    Args:
        logits: [B, C] of the hazard in each interval.
        target: [B, 2] hours, and whether they are those of the event.
        edges: [C] ends of the intervals in hours; the first begins at 0.
    """
    came, through = hazards(target, edges)
    loss = functional.softplus(logits) * through + functional.softplus(-logits) * came
    return _mean(loss.sum(1), target.observed.all(1))


def hazards(target: Target, edges: Tensor) -> tuple[Tensor, Tensor]:
    """[B, C] bool whether the event came in each interval, and whether the sample came through it;
    neither where that is unknown. Of what `hazard_loss` reads."""
    observed = target.observed.all(1, keepdim=True)
    # Nobody is a sample beyond the last edge: it has come through everything.
    hours = target.value[:, :1].masked_fill(~observed, 0.0)
    is_event = target.value[:, 1:] > 0.5
    starts = functional.pad(edges[:-1], (1, 0))
    within = (hours <= edges) & ((hours > starts) | (edges == edges[0]))
    came = within & is_event & observed
    last_seen = torch.where(is_event, edges, (starts + edges) / 2)
    return came, ~came & (hours >= last_seen) & observed


def _mean(loss: Tensor, observed: Tensor) -> Tensor:
    return loss.masked_fill(~observed, 0.0).sum() / observed.sum().clamp(min=1)


class Head(nn.Module):
    """Linear in the aspect.

    Args:
        width: D of the aspect.
        answer: of the task.
    """

    says_logits: ClassVar[bool] = True
    chooses_one: ClassVar[bool] = False
    """Its logits are weighed against each other, and not each by itself."""

    def __init__(self, width: int, answer: Answer) -> None:
        super().__init__()
        self.shape = answer.shape
        self.linear = nn.Linear(width, answer.shape[0] if answer.shape else 1)

    def forward(self, aspect: Tensor) -> Tensor:
        """[B, D] -> logits [B] or [B, C], as the answer has it."""
        logits: Tensor = self.linear(aspect)
        return logits if self.shape else logits[:, 0]

    @abstractmethod
    def loss(self, logits: Tensor, target: Target) -> Tensor:
        """The scalar to minimise."""

    @abstractmethod
    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        """What each logit is about, for a linear regression: values [B, C], and whether they are
        known [B, C] bool. They are probabilities, unless the head does not say logits."""

    def auroc(self, logits: Tensor, target: Target) -> Tensor | None:
        """A figure to choose the epoch by, higher is better; None where the loss has to do."""
        return None


class BinaryHead(Head):
    """One logit of the outcome."""

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return binary_loss(logits, target)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        return target.value[:, None], target.observed[:, None]

    def auroc(self, logits: Tensor, target: Target) -> Tensor | None:
        known, labels = logits[target.observed], target.value[target.observed]
        if labels.sum() in (0, len(labels)):
            return None
        return binary_auroc(known.sigmoid(), labels.long())


class MultilabelHead(Head):
    """One logit a class."""

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return binary_loss(logits, target)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        return target.value, target.observed


class MulticlassHead(Head):
    """One logit a class, of which one is true."""

    chooses_one = True

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return multiclass_loss(logits, target)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        n_classes = self.linear.out_features
        value = functional.one_hot(target.value.long(), n_classes).to(target.value.dtype)
        return value, target.observed[:, None].expand_as(value)


class RegressionHead(Head):
    """One value in standard deviations of train."""

    says_logits = False

    def __init__(self, width: int, answer: Answer) -> None:
        super().__init__(width, answer)
        self.scale = cast(Regression, answer)

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return regression_loss(logits, target, mean=self.scale.mean, sd=self.scale.sd)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        value = (target.value - self.scale.mean) / self.scale.sd
        value = value.clamp(-HUBER_SD, HUBER_SD)
        return value[:, None], target.observed[:, None]


class HazardHead(Head):
    """One logit of the hazard an interval."""

    edges: Tensor

    def __init__(self, width: int, answer: Answer) -> None:
        super().__init__(width, answer)
        edges = torch.tensor(cast(TimeToEvent, answer).edges, dtype=torch.float32)
        self.register_buffer("edges", edges, persistent=False)

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return hazard_loss(logits, target, self.edges)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        came, through = hazards(target, self.edges)
        return came.to(target.value.dtype), came | through


HEADS: dict[TaskKind, type[Head]] = {
    "binary": BinaryHead,
    "multiclass": MulticlassHead,
    "multilabel": MultilabelHead,
    "regression": RegressionHead,
    "time_to_event": HazardHead,
}
