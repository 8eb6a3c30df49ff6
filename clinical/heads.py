"""Heads: from a task's aspect to its logits, its loss and its probability."""

from clinical.batch import Target
from clinical.config import TaskConfig
from clinical.errors import ConfigError

from torch import Tensor, nn
from torch.nn import functional


def binary_loss(logits: Tensor, target: Target) -> Tensor:
    """Mean binary cross-entropy of the samples whose label is known.

    Args:
        logits: [B].
        target: 0 or 1, read where observed.

    Returns:
        A scalar; zero, with a gradient of zero, where no label is known.
    """
    observed = target.observed
    value = target.value.masked_fill(~observed, 0.0).to(logits.dtype)
    loss = functional.binary_cross_entropy_with_logits(logits, value, reduction="none")
    return loss.masked_fill(~observed, 0.0).sum() / observed.sum().clamp(min=1)


class BinaryHead(nn.Module):
    """One logit per sample, linear in the aspect."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, aspect: Tensor) -> Tensor:
        """[B, D] -> logits [B]."""
        logits: Tensor = self.linear(aspect)
        return logits[:, 0]

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        """The scalar to minimise; see `binary_loss`."""
        return binary_loss(logits, target)

    def probability(self, logits: Tensor) -> Tensor:
        """[B] logits -> [B] probability of the outcome, before calibration."""
        return logits.sigmoid()


HEADS: dict[str, type[BinaryHead]] = {"binary": BinaryHead}


def build_head(task: TaskConfig, width: int) -> BinaryHead:
    """The head of a task.

    Args:
        task: its `kind` names an entry of `HEADS`.
        width: D of the aspect.

    Raises:
        ConfigError: there is no head of that kind.
    """
    if task.kind not in HEADS:
        raise ConfigError(
            f"tasks: a task of kind {task.kind} cannot be trained; the kinds are {', '.join(HEADS)}"
        )
    return HEADS[task.kind](width)
