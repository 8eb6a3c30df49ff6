"""The losses of the tasks: pure functions of logits and targets.

Every loss is a mean over what is known, and zero, with a gradient of zero, where nothing is.
"""

from clinical.batch import Target

import torch
from torch import Tensor
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


def known_auroc(logits: Tensor, target: Target) -> Tensor | None:
    """Area under the ROC curve of logits [B] where the label is known; None of one class."""
    known, labels = logits[target.observed], target.value[target.observed]
    if labels.sum() in (0, len(labels)):
        return None
    return binary_auroc(known.sigmoid(), labels.long())


def _mean(loss: Tensor, observed: Tensor) -> Tensor:
    return loss.masked_fill(~observed, 0.0).sum() / observed.sum().clamp(min=1)
