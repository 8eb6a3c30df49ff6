"""Heads: from a task's aspect to its logits, and their loss.

What scores the logits become is told by the task's answer (`clinical.answers`), without torch.
"""

from clinical.config import TaskKind
from clinical.heads.head import Head
from clinical.heads.linear import (
    BinaryHead,
    HazardHead,
    LinearHead,
    MulticlassHead,
    MultilabelHead,
    RegressionHead,
)

HEADS: dict[TaskKind, type[LinearHead]] = {
    "binary": BinaryHead,
    "multiclass": MulticlassHead,
    "multilabel": MultilabelHead,
    "regression": RegressionHead,
    "time_to_event": HazardHead,
}

__all__ = ["HEADS", "Head", "LinearHead"]
