"""Linear heads, one for each kind of task."""

from clinical.answers import Answer, Regression, TimeToEvent
from clinical.batch import Target
from clinical.heads.head import Head
from clinical.heads.losses import (
    HUBER_SD,
    binary_loss,
    hazard_loss,
    hazards,
    known_auroc,
    multiclass_loss,
    regression_loss,
)

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class LinearHead(Head):
    """Linear in the aspect.

    Args:
        width: D of the aspect.
        answer: of the task.
    """

    says_logits: ClassVar[bool] = True
    chooses_one: ClassVar[bool] = False
    """Its logits are weighed against each other, and not each by itself."""
    along: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "linear.weight": ("vocabulary",),
        "linear.bias": ("vocabulary",),
    }

    def __init__(self, width: int, answer: Answer) -> None:
        super().__init__()
        self.shape = answer.shape
        self.linear = nn.Linear(width, answer.shape[0] if answer.shape else 1)

    def forward(self, aspect: Tensor) -> Tensor:
        """[B, D] -> logits [B] or [B, C], as the answer has it."""
        logits: Tensor = self.linear(aspect)
        return logits if self.shape else logits[:, 0]


class BinaryHead(LinearHead):
    """One logit of the outcome."""

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return binary_loss(logits, target)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        return target.value[:, None], target.observed[:, None]

    def auroc(self, logits: Tensor, target: Target) -> Tensor | None:
        return known_auroc(logits, target)


class MultilabelHead(LinearHead):
    """One logit a class."""

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return binary_loss(logits, target)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        return target.value, target.observed


class MulticlassHead(LinearHead):
    """One logit a class, of which one is true."""

    chooses_one = True

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        return multiclass_loss(logits, target)

    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        n_classes = self.linear.out_features
        value = functional.one_hot(target.value.long(), n_classes).to(target.value.dtype)
        return value, target.observed[:, None].expand_as(value)


class RegressionHead(LinearHead):
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


class HazardHead(LinearHead):
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
