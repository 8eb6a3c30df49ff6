"""Read a predictions table, and labels or a baseline beside it, into arrays to be judged."""

from __future__ import annotations

from clinical.errors import SchemaError

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SAMPLE = ["subject_id", "prediction_time"]
KEY = [*SAMPLE, "task", "class"]


@dataclass(frozen=True)
class Judged:
    """The rows of one task (and class) that have a score and a label, and how many have not.

    Attributes:
        task, label_class: what is predicted; `label_class` is None unless classes are scored.
        subjects: [N] whose row it is.
        scores, labels: [N] risks in 0..1, and 0.0 or 1.0.
        baseline: [N] the baseline's risks for the same rows, None without a baseline.
        without_score, without_label, without_baseline: rows left out, each counted once, for the
            first reason in this order.
    """

    task: str
    label_class: str | None
    subjects: NDArray[np.int64]
    scores: NDArray[np.float64]
    labels: NDArray[np.float64]
    baseline: NDArray[np.float64] | None
    without_score: int
    without_label: int
    without_baseline: int

    @property
    def name(self) -> str:
        """The task, with the class behind a slash where there is one."""
        return self.task if self.label_class is None else f"{self.task}/{self.label_class}"

    @property
    def events(self) -> int:
        """Rows labelled 1."""
        return int(self.labels.sum())


def read_judged(
    predictions: pd.DataFrame,
    labels: pd.DataFrame | None,
    baseline: pd.DataFrame | None,
    *,
    beside: str = "baseline",
) -> list[Judged]:
    """One `Judged` for each task and class, in the order of the predictions.

    Args:
        predictions, labels, baseline: as for `evaluate`.
        beside: what errors call the baseline.

    Raises:
        SchemaError: a column is missing or of the wrong type, a row is there twice, a score is
            outside 0..1, a label is neither 0 nor 1, or a label has no prediction.
    """
    rows = _read_scores(predictions, "predictions")
    if labels is not None:
        rows = _join_labels(rows, labels)
    elif "label" in predictions:
        rows["label"] = _numbers(predictions["label"], "predictions", "label")
    else:
        raise SchemaError(
            "predictions: there is no column 'label'; give --labels FILE_OR_FOLDER (in Python "
            "labels=) with subject_id, prediction_time, boolean_value"
        )
    if baseline is not None:
        rows = _join_baseline(rows, _read_scores(baseline, beside))
    judged = [_judged(group) for _, group in rows.groupby(["task", "class"], sort=False)]
    if not sum(len(part.labels) for part in judged):
        all_of = "a score, a label" + ("" if baseline is None else f" and a score in the {beside}")
        raise SchemaError(
            f"predictions: none of {len(rows)} rows has all of {all_of}; nothing can be evaluated"
        )
    return judged


def _read_scores(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """`KEY` and `score` with settled types; an absent or null class is an empty text."""
    _require(table, name, [*SAMPLE, "task", "score"])
    if "horizon_hours" in table and (timed := int(table["horizon_hours"].notna().sum())):
        raise SchemaError(
            f"{name}: {timed} rows have horizon_hours (time-to-event); evaluate judges risks with "
            "a yes-or-no label; leave those rows out"
        )
    rows = _read_samples(table, name)
    rows["task"] = _texts(table, name, "task")
    classes = table["class"] if "class" in table else pd.Series([None] * len(table))
    # As an array: the index of a user's table says nothing, and may repeat.
    rows["class"] = np.where(classes.notna(), classes.astype(str), "").astype(object)
    rows["score"] = _numbers(table["score"], name, "score")
    outside = int(((rows["score"] < 0) | (rows["score"] > 1)).sum())
    if outside:
        raise SchemaError(
            f"{name}: {outside} scores are outside 0 to 1; evaluate judges probabilities"
        )
    _refuse_repeats(rows, KEY, name)
    return rows


def _read_samples(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """subject_id as int64 and prediction_time as datetime64[us]."""
    for column in SAMPLE:
        if missing := int(table[column].isna().sum()):
            raise SchemaError(f"{name}: {missing} rows have no {column}; fill or drop them")
    if not pd.api.types.is_integer_dtype(table["subject_id"]):
        raise SchemaError(
            f"{name}: subject_id is {table['subject_id'].dtype}, not a whole number; cast it"
        )
    times = table["prediction_time"]
    if times.dtype.kind != "M" or times.dt.tz is not None:  # "M": NumPy's, pandas' and Arrow's
        raise SchemaError(
            f"{name}: prediction_time is {times.dtype}, not a timestamp without time zone; "
            "convert it"
        )
    return pd.DataFrame(
        {
            "subject_id": table["subject_id"].to_numpy(dtype=np.int64),
            "prediction_time": times.to_numpy(dtype="datetime64[us]"),
        }
    )


def _join_labels(rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Rows with the labels' `boolean_value` as `label`, NaN where there is none."""
    _require(labels, "labels", [*SAMPLE, "boolean_value"])
    if (rows["class"] != "").any():
        raise SchemaError(
            "labels: a frame of labels can't tell classes apart; put a column 'label' (0 or 1 for "
            "the row's class) into the predictions"
        )
    truth = _read_samples(labels, "labels")
    on = SAMPLE
    if "task" in labels:
        truth["task"], on = _texts(labels, "labels", "task"), [*SAMPLE, "task"]
    elif rows["task"].nunique() > 1:
        raise SchemaError(
            f"labels: the predictions hold {rows['task'].nunique()} tasks; add a column 'task'"
        )
    truth["label"] = _numbers(labels["boolean_value"], "labels", "boolean_value")
    _refuse_repeats(truth, on, "labels")
    joined = rows.merge(truth, on=on, how="left", validate="many_to_one")
    known = truth.merge(rows[on], on=on, how="inner")
    if unknown := len(truth) - len(known):
        raise SchemaError(
            f"labels: {unknown} of {len(truth)} labels are for a sample (subject_id, "
            "prediction_time) that the predictions don't hold; keep only labels of scored samples"
        )
    return joined


def _join_baseline(rows: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    other = baseline.rename(columns={"score": "baseline"})
    return rows.merge(other, on=KEY, how="left", validate="one_to_one")


def _judged(rows: pd.DataFrame) -> Judged:
    """The rows of one task and class that can be judged."""
    task, label_class = str(rows["task"].iloc[0]), str(rows["class"].iloc[0])
    has_score, has_label = rows["score"].notna(), rows["label"].notna()
    has_baseline = rows["baseline"].notna() if "baseline" in rows else has_score
    usable = rows[has_score & has_label & has_baseline]
    wrong = int((~rows.loc[has_label, "label"].isin([0.0, 1.0])).sum())
    if wrong:
        raise SchemaError(
            f"predictions: {wrong} labels of task {task!r} are neither 0 nor 1; evaluate judges "
            "risks with a yes-or-no label; leave that task out"
        )
    return Judged(
        task=task,
        label_class=label_class or None,
        subjects=usable["subject_id"].to_numpy(),
        scores=usable["score"].to_numpy(),
        labels=usable["label"].to_numpy(),
        baseline=usable["baseline"].to_numpy() if "baseline" in rows else None,
        without_score=int((~has_score).sum()),
        without_label=int((has_score & ~has_label).sum()),
        without_baseline=int((has_score & has_label & ~has_baseline).sum()),
    )


def _require(table: pd.DataFrame, name: str, columns: list[str]) -> None:
    if missing := [column for column in columns if column not in table.columns]:
        raise SchemaError(
            f"{name}: column {', '.join(missing)} is missing; found {', '.join(map(str, table))}"
        )
    if not len(table):
        raise SchemaError(f"{name}: the table has no row; score some samples first")


def _refuse_repeats(rows: pd.DataFrame, key: list[str], name: str) -> None:
    if repeats := int(rows.duplicated(key).sum()):
        raise SchemaError(f"{name}: {repeats} rows repeat {', '.join(key)}; keep one of each")


def _texts(table: pd.DataFrame, name: str, column: str) -> NDArray[np.object_]:
    if missing := int(table[column].isna().sum()):
        raise SchemaError(f"{name}: {missing} rows have no {column}; fill or drop them")
    return table[column].astype(str).to_numpy(dtype=object)


def _numbers(values: pd.Series, name: str, column: str) -> NDArray[np.float64]:
    """float64 with NaN for null; numbers and booleans are accepted, text is not."""
    try:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"{name}: {column} is {values.dtype}, not a number; cast it") from error
    if infinite := int(np.isinf(numbers).sum()):
        raise SchemaError(f"{name}: {infinite} values of {column} are infinite; drop them")
    return numbers
