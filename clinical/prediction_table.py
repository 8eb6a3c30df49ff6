"""The long table of predictions: one row a sample, task, class and horizon."""

from clinical.answers import Answer
from clinical.cohort.labels import label_array
from clinical.config import RunConfig, TaskKind

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import polars as pl

NOT_CALIBRATED = "none"
TYPICALITY = "typicality"
INTERVAL = ("low", "high")
SETS: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("in_set", "other_in_set"),
    "multiclass": ("in_set",),
    "multilabel": ("in_set", "other_in_set"),
    "regression": INTERVAL,
    "time_to_event": (),
}
"""Columns of sets; of an event that may be censored there is none."""

COLUMNS = (
    "subject_id",
    "prediction_time",
    "task",
    "class",
    "horizon_hours",
    "score",
    "label",
    "label_observed",
    "kind",
    "in_set",
    "other_in_set",
    "low",
    "high",
    "coverage",
    "calibration",
)
"""In this order, those that there are; what else was asked for comes after them."""


def long_frame(
    config: RunConfig, answer: Answer, task: str, samples: pl.DataFrame, scores: np.ndarray
) -> pd.DataFrame:
    """The rows of one task.

    Args:
        config: of the run.
        answer: of the task.
        task: its name.
        samples: [N] of a store.
        scores: [N, R]; those of a sample without anything visible are not shown.

    Returns:
        N * R rows, all of a sample together.
    """
    n, n_each = scores.shape
    labels = label_array(samples, task, config.tasks[task])
    unseen = samples["reason"].is_not_null().to_numpy()
    frame = pd.DataFrame(
        {
            "subject_id": np.repeat(samples["subject_id"].to_numpy(), n_each),
            "prediction_time": np.repeat(samples["prediction_time"].to_numpy(), n_each),
            "task": task,
            # A text even where all are null, or files of predictions could not be joined.
            "class": pd.Series(list(answer.classes) * n, dtype="string"),
            "horizon_hours": np.array(answer.horizons * n, dtype=np.float64),
            "score": np.where(unseen[:, None], np.nan, scores).ravel(),
            "label": answer.truth(labels).ravel(),
        }
    )
    happened = answer.happened(labels)
    if happened is not None:
        observed = pd.Series(np.repeat(happened, n_each)).map({1.0: True, 0.0: False})
        frame["label_observed"] = observed.astype("boolean")
    return frame.assign(kind=config.tasks[task].kind)


def add_sets(
    frame: pd.DataFrame, kind: TaskKind, sets: Mapping[str, np.ndarray], *, coverage: float
) -> None:
    """Put the conformal sets or intervals of a task beside its rows, null where there are none.

    Args:
        frame: of `long_frame`.
        kind: of the task.
        sets: what `Answer.sets` gives; empty where the model has none.
        coverage: of the sets.
    """
    is_scored = frame["score"].notna()
    for name in SETS[kind]:
        values = sets[name].ravel() if sets else np.full(len(frame), np.nan)
        column = pd.Series(values).where(is_scored)
        # As booleans with nulls, where they say yes or no.
        frame[name] = column if name in INTERVAL else column.astype("boolean")
    frame["coverage"] = np.where(is_scored & bool(sets), coverage, np.nan)


def add_typicality(frame: pd.DataFrame, p_values: np.ndarray, modalities: Sequence[str]) -> None:
    """Put beside the rows of a task how typical each sample is, null where it has no score.

    Args:
        frame: of `long_frame`, N * R rows.
        p_values: [N, M + 1] of each modality and of everything.
        modalities: [M] names.
    """
    n_each = len(frame) // max(len(p_values), 1)
    is_scored = frame["score"].notna()
    named = [f"{TYPICALITY}_{name}" for name in modalities]
    columns = dict(zip([*named, TYPICALITY], p_values.T, strict=True))
    for name in (TYPICALITY, *named):
        frame[name] = pd.Series(np.repeat(columns[name], n_each)).where(is_scored)


def together(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tasks below each other."""
    frame = pd.concat(frames, ignore_index=True)
    first = [name for name in COLUMNS if name in frame]
    return frame[[*first, *(name for name in frame if name not in first)]]
