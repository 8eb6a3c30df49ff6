"""What may be explained: the binary tasks of a model."""

from clinical.config_file import likely
from clinical.errors import ConfigError
from clinical.predictor import Predictor

from collections.abc import Sequence


def binary_tasks(predictor: Predictor, task: str | None) -> Sequence[str]:
    """The task named, or every binary one.

    Raises:
        ConfigError: there is no such binary task, or none at all.
    """
    tasks = list(predictor.bundle.config.binary_tasks)
    if not tasks:
        raise ConfigError("explain: the model has no binary task, and only those are explained")
    if task is not None and task not in tasks:
        raise ConfigError(f"task: the model has no binary task {task}{likely(task, tasks)}")
    return tasks if task is None else [task]
