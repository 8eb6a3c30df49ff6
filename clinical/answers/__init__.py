"""From a task's logits to its scores, one answer a kind of task."""

from clinical.answers.answer import Answer, known
from clinical.answers.multiclass import Multiclass
from clinical.answers.regression import Regression
from clinical.answers.time_to_event import TimeToEvent
from clinical.answers.yes_or_no import Binary, Multilabel
from clinical.config import TaskConfig, TaskKind

from collections.abc import Mapping
from typing import Any

ANSWERS: dict[TaskKind, type[Answer]] = {
    "binary": Binary,
    "multiclass": Multiclass,
    "multilabel": Multilabel,
    "regression": Regression,
    "time_to_event": TimeToEvent,
}


def answers_of(
    tasks: Mapping[str, TaskConfig], learned: Mapping[str, Mapping[str, Any]]
) -> dict[str, Answer]:
    """The answer to each task, with what train taught.

    Raises:
        ValueError, TypeError, KeyError: what was learned does not fit the tasks.
    """
    return {
        name: ANSWERS[task.kind].read(task, learned.get(name, {})) for name, task in tasks.items()
    }


__all__ = [
    "ANSWERS",
    "Answer",
    "Binary",
    "Multiclass",
    "Multilabel",
    "Regression",
    "TimeToEvent",
    "answers_of",
    "known",
]
