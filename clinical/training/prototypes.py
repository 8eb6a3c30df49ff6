"""The class prototypes that score: means over all labelled train samples, by the weights that do.

As the embedding memory is, they are written without gradient before each validation and before the
weights are kept, and never from a training batch.
"""

from clinical.batch import ClinicalBatch
from clinical.heads import PrototypicalHead
from clinical.heads.prototypical import classes_of
from clinical.model import ClinicalModel

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moments:
    """Of the aspects of some samples, in double precision.

    Attributes:
        count: [C] samples of each class.
        total: [C, D] sum of their aspects.
        square: [D, D] sum of the products of each aspect with itself.
    """

    count: Tensor
    total: Tensor
    square: Tensor

    def temperature(self) -> float | None:
        """By what a squared distance counts as much as in a normal distribution around each class.

        Of samples spread as W within their class, `tr W / (2 tr W^2)` is the slope of the normal
        exponent's least squares on the squared distance; the same in all directions, it is one over
        twice the variance. Where each class has one sample, it is one over the mean squared
        distance of two classes; where nothing lies apart, None.
        """
        known = self.count > 0
        mean = self.total[known] / self.count[known][:, None]
        freedom = self.count.sum() - known.sum()
        within = (self.square - (mean * self.count[known][:, None]).T @ mean) / freedom.clamp_min(1)
        spread, scale = float(within.trace()), float(self.square.trace())
        if freedom > 0 and spread > 1e-9 * scale:
            return spread / (2 * float(within.square().sum()))
        apart = torch.pdist(mean).square()
        is_apart = len(apart) > 0 and float(apart.mean()) > 1e-9 * scale
        return 1 / float(apart.mean()) if is_apart else None


class Labelled:
    """The samples that the prototypes are means of.

    Args:
        loader: batches of them, in any order.
    """

    def __init__(self, loader: Iterable[ClinicalBatch]) -> None:
        self.loader = loader

    def write(self, model: ClinicalModel, *, device: torch.device) -> None:
        """Put the prototypes of every task into its head.

        Args:
            model: on the device, with its memory filled.
            device: to read on.
        """
        for task, found in self._look(model, device).items():
            prototypical(model, task).remember(found.total, found.count)

    def begin(self, model: ClinicalModel, *, device: torch.device) -> None:
        """The same, and begin with the temperature at which distances are log odds; say which
        classes train does not have."""
        for task, found in self._look(model, device).items():
            head = prototypical(model, task)
            head.remember(found.total, found.count)
            temperature = found.temperature()
            if temperature is not None:
                head.set_temperature(temperature)
            if n_absent := int((found.count == 0).sum()):
                logger.warning(
                    "tasks.%s: no sample that is learned from has %d of its %d classes; they are "
                    "never predicted",
                    task,
                    n_absent,
                    len(found.count),
                )

    @torch.no_grad()
    def _look(self, model: ClinicalModel, device: torch.device) -> dict[str, Moments]:
        was_training = model.training
        model.eval()
        found = {task: _nothing(prototypical(model, task), model.width) for task in model.heads}
        for batch in self.loader:
            aspects = model(batch.to(device)).aspects
            for task, before in found.items():
                is_class = classes_of(batch.targets[task], len(before.count)).double()
                aspect = aspects[task].cpu().double()
                counts = is_class.sum(1)[:, None]
                found[task] = Moments(
                    count=before.count + is_class.sum(0),
                    total=before.total + is_class.T @ aspect,
                    square=before.square + (counts * aspect).T @ aspect,
                )
        model.train(was_training)
        return found


def _nothing(head: PrototypicalHead, width: int) -> Moments:
    zeros = torch.zeros(head.n_classes, width, dtype=torch.float64)
    return Moments(zeros[:, 0].clone(), zeros, torch.zeros(width, width, dtype=torch.float64))


def prototypical(model: ClinicalModel, task: str) -> PrototypicalHead:
    """The head of a task of a run in which all are prototypical."""
    return cast(PrototypicalHead, model.head(task))
