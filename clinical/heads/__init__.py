"""Heads: from a task's aspect to its logits, and their loss.

What scores the logits become is told by the task's answer (`clinical.answers`), without torch.
"""

from clinical.answers import Answer
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
from clinical.heads.prototypical import (
    PrototypicalBinaryHead,
    PrototypicalHead,
    PrototypicalMulticlassHead,
)
from clinical.sections import HeadKind

from collections.abc import Callable, Mapping

HEADS: dict[TaskKind, type[LinearHead]] = {
    "binary": BinaryHead,
    "multiclass": MulticlassHead,
    "multilabel": MultilabelHead,
    "regression": RegressionHead,
    "time_to_event": HazardHead,
}
PROTOTYPICAL_HEADS: dict[TaskKind, type[PrototypicalHead]] = {
    "binary": PrototypicalBinaryHead,
    "multiclass": PrototypicalMulticlassHead,
}
"""The kinds that the configuration lets have one."""

HEADS_OF: dict[HeadKind, Mapping[TaskKind, Callable[[int, Answer], Head]]] = {
    "linear": HEADS,
    "prototypical": PROTOTYPICAL_HEADS,
}
"""`finetune.head` -> the head of each kind of task."""

__all__ = ["HEADS", "HEADS_OF", "Head", "LinearHead", "PrototypicalHead"]
