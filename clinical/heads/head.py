"""What every head is asked."""

from clinical.batch import Target

from abc import abstractmethod

from torch import Tensor, nn


class Head(nn.Module):
    """From a task's aspect to its logits, and their loss."""

    @abstractmethod
    def forward(self, aspect: Tensor) -> Tensor:
        """[B, D] -> logits [B] or [B, C], as the answer has it."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Target) -> Tensor:
        """The scalar to minimise."""

    @abstractmethod
    def wanted(self, target: Target) -> tuple[Tensor, Tensor]:
        """What each logit is about, for a linear regression: values [B, C], and whether they are
        known [B, C] bool. They are probabilities, unless the head is linear and says no logits."""

    def auroc(self, logits: Tensor, target: Target) -> Tensor | None:
        """A figure to choose the epoch by, higher is better; None where the loss has to do."""
        return None
