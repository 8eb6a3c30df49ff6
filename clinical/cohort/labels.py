"""Labels: from MEDS folders or built-in tasks to columns of numbers.

A task has one column `label.<task>`, float64 and null where unknown: 0 or 1, the place of its
class, a value, or hours, with `label.<task>/observed` for time-to-event; a multilabel task has a
column `label.<task>/<class>` for each class.
"""

from clinical.answers import ANSWERS, Answer, Multiclass
from clinical.cohort.tasks import build_task
from clinical.config import RunConfig, TaskConfig
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.places import parquet_files

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

KEYS = ["subject_id", "prediction_time"]


def read_labels(
    extract: Extract, name: str, task: TaskConfig, *, is_optional: bool = False
) -> pl.DataFrame | None:
    """`subject_id, prediction_time` and the label columns of one task, classes still as texts.

    Args:
        extract: To read from.
        name, task: Of the configuration.
        is_optional: Give None where a folder of labels is absent.

    Raises:
        ConfigError: A label folder is missing, or a built-in task makes labels of another kind.
        SchemaError: A label is of an unknown subject, or is none of the task's kind.
    """
    columns = task.label_columns(name)
    if task.builder is not None:
        built = build_task(extract, task, where=f"tasks.{name}")
        found = _as_columns(built.samples, task, columns, f"tasks.{name}.builder")
        if task.kind == "binary":
            _warn_of_one_class(found[columns[0]].drop_nulls(), name)
        return found
    there = [
        folder for folder in task.folders if not is_optional or parquet_files(extract.path / folder)
    ]
    if not there:
        return None
    if task.kind != "multilabel":
        return _as_columns(_checked(extract, there[0]), task, columns, str(there[0]))
    classes = [
        _as_columns(_checked(extract, folder), task, [f"label.{name}/{folder.name}"], str(folder))
        for folder in there
    ]
    together = classes[0]
    for frame in classes[1:]:
        together = together.join(frame, on=KEYS, how="full", coalesce=True)
    absent = [pl.lit(None, pl.Float64).alias(c) for c in columns if c not in together.columns]
    return together.with_columns(absent).select(*KEYS, *columns)


def learn_answers(config: RunConfig, cohort: pl.DataFrame) -> dict[str, Answer]:
    """What the train labels of a training cohort teach about each task.

    Raises:
        SchemaError: They are too few or all alike.
    """
    train = cohort.filter(pl.col("split") == "train")
    return {
        name: ANSWERS[task.kind].learn(
            task,
            train.select(task.label_columns(name)).to_numpy(),
            subjects=train["subject_id"].to_numpy(),
            where=f"tasks.{name}",
        )
        for name, task in config.tasks.items()
    }


def numbered(cohort: pl.DataFrame, answers: Mapping[str, Answer]) -> pl.DataFrame:
    """The cohort with the place of each class instead of its name.

    A class that train does not have is unknown to the model: its labels become null, and are
    counted in a warning.
    """
    for name, answer in answers.items():
        if not isinstance(answer, Multiclass):
            continue
        column = f"label.{name}"
        places = {label: float(place) for place, label in enumerate(answer.names)}
        before = cohort[column].cast(pl.String)
        after = before.replace_strict(places, default=None, return_dtype=pl.Float64)
        if unknown := int((before.is_not_null() & after.is_null()).sum()):
            logger.warning(
                "tasks.%s: %s labels are of %s classes that no train label has; they are left out",
                name,
                f"{unknown:,}",
                f"{before.filter(after.is_null()).drop_nulls().n_unique():,}",
            )
        cohort = cohort.with_columns(after.alias(column))
    return cohort


def _warn_of_one_class(labels: pl.Series, name: str) -> None:
    """A builder that finds no outcome mostly looks for codes that the extract writes otherwise."""
    if len(labels) and labels.n_unique() == 1:
        logger.warning(
            "tasks.%s: all %s labels that the builder made say %s; has the extract its codes?",
            name,
            f"{len(labels):,}",
            "yes" if labels.first() else "no",
        )


def label_array(samples: pl.DataFrame, name: str, task: TaskConfig) -> NDArray[np.float64]:
    """[N, n] the labels of a task as a store has them, NaN where unknown."""
    columns = samples.select(pl.col(c).cast(pl.Float64) for c in task.label_columns(name))
    labels: NDArray[np.float64] = columns.fill_null(float("nan")).to_numpy()
    return np.ascontiguousarray(labels)


def _checked(extract: Extract, folder: Path) -> pl.DataFrame:
    """The labels of a folder, all of subjects of the extract."""
    labels = extract.labels(folder)
    unknown = labels.join(extract.subjects(), on="subject_id", how="anti")
    if not unknown.is_empty():
        raise SchemaError(
            f"{folder}: {unknown.height} labels are of {unknown['subject_id'].n_unique()} subjects "
            "that the extract does not have; check that labels and extract belong together"
        )
    return labels


def _as_columns(
    labels: pl.DataFrame, task: TaskConfig, columns: list[str], where: str
) -> pl.DataFrame:
    """`KEYS` and the columns of one folder."""
    truth = ANSWERS[task.kind].column
    if truth not in labels.columns:
        raise ConfigError(f"{where}: makes no {truth}, which a {task.kind} task needs")
    if task.kind == "multiclass":
        classes = labels.select(*KEYS, pl.col(truth).cast(pl.String).alias(columns[0]))
        if empty := int((classes[columns[0]].str.strip_chars() == "").sum()):
            raise SchemaError(f"{where}: {empty} labels are empty texts; name their class")
        return classes
    value = pl.col(truth).cast(pl.Float64)
    found = labels.select(*KEYS, value.fill_nan(None).alias(columns[0]))
    if n_infinite := int(found[columns[0]].is_infinite().sum()):
        raise SchemaError(f"{where}: {n_infinite} labels are infinite; drop them")
    if task.kind == "time_to_event":
        return _with_observed(found, labels["boolean_value"], columns, where)
    return found


def _with_observed(
    found: pl.DataFrame, observed: pl.Series, columns: list[str], where: str
) -> pl.DataFrame:
    hours, happened = columns
    found = found.with_columns(observed.cast(pl.Float64).alias(happened))
    if halves := int((found[hours].is_null() != found[happened].is_null()).sum()):
        raise SchemaError(
            f"{where}: {halves} labels have only one of float_value (hours) and boolean_value "
            "(true: the event was observed, false: censored); a time-to-event label needs both"
        )
    if negative := int((found[hours] < 0).sum()):
        raise SchemaError(
            f"{where}: {negative} labels are of hours before the prediction time; leave out "
            "samples whose event has happened by then"
        )
    return found
