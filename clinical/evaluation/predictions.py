"""Read a predictions table, and labels or a baseline beside it, into arrays to be judged."""

from __future__ import annotations

from clinical.config import TaskKind
from clinical.errors import SchemaError
from clinical.evaluation.gathering import SAMPLE, judged_task
from clinical.evaluation.judged import Judged

from functools import partial
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

KEY = [*SAMPLE, "task", "class", "horizon_hours"]
KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
TRUTH = {
    "binary": ("boolean_value",),
    "regression": ("float_value",),
    "multiclass": ("categorical_value",),
    "time_to_event": ("float_value", "boolean_value"),
}
"""Kind of task -> the columns of MEDS labels with its truth."""


def read_judged(
    predictions: pd.DataFrame,
    labels: pd.DataFrame | None,
    baseline: pd.DataFrame | None,
    *,
    beside: str = "baseline",
) -> list[Judged]:
    """One `Judged` for each task, horizon and class, in the order of the predictions.

    Of several classes, or horizons, there is one for all together, then one for each.

    Args:
        predictions, labels, baseline: as for `evaluate`.
        beside: what errors call the baseline.

    Raises:
        SchemaError: a column is missing or of the wrong type, a row is there twice, a score or a
            label is none of its kind of task, or a label has no prediction.
    """
    rows = _read_scores(predictions, "predictions")
    if labels is not None:
        rows = _join_labels(rows, labels)
    elif "label" in predictions:
        rows["label"] = _numbers(predictions["label"], "predictions", "label")
        rows["observed"] = _observed(predictions, rows["kind"] == "time_to_event")
    else:
        raise SchemaError(
            "predictions: there is no column 'label'; give --labels FILE_OR_FOLDER (in Python "
            "labels=) with subject_id, prediction_time, boolean_value"
        )
    if baseline is not None:
        rows = _join_baseline(rows, _read_scores(baseline, beside))
    judged = [one for _, group in rows.groupby("task", sort=False) for one in judged_task(group)]
    if not sum(len(part.labels) for part in judged):
        all_of = "a score, a label" + ("" if baseline is None else f" and a score in the {beside}")
        raise SchemaError(
            f"predictions: none of {len(rows)} rows has all of {all_of}; nothing can be evaluated"
        )
    return judged


def _read_scores(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """`KEY`, kind and score with settled types; an absent or null class is an empty text."""
    _require(table, name, [*SAMPLE, "task", "score"])
    rows = _read_samples(table, name)
    rows["task"] = _texts(table, name, "task")
    classes = table["class"] if "class" in table else pd.Series([None] * len(table))
    rows["class"] = _class_names(classes, null="")
    rows["score"] = _numbers(table["score"], name, "score")
    rows["horizon_hours"] = np.nan
    if "horizon_hours" in table:
        rows["horizon_hours"] = _numbers(table["horizon_hours"], name, "horizon_hours")
    rows["kind"] = _kinds(table, rows, name)
    is_risk = rows["kind"] != "regression"
    outside = int((is_risk & ((rows["score"] < 0) | (rows["score"] > 1))).sum())
    if outside:
        raise SchemaError(
            f"{name}: {outside} scores are outside 0 to 1; evaluate judges probabilities, or "
            "values where a column kind says regression"
        )
    _refuse_repeats(rows, KEY, name)
    return rows


def _kinds(table: pd.DataFrame, rows: pd.DataFrame, name: str) -> NDArray[np.object_]:
    """[N] kind of each row's task; where nothing says it, from what the row has."""
    timed = rows["horizon_hours"].notna()
    guessed = np.where(timed, "time_to_event", "binary").astype(object)
    if "kind" not in table:
        return guessed
    said = table["kind"].notna().to_numpy()
    kinds = np.where(said, table["kind"].astype(str), guessed).astype(object)
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise SchemaError(
            f"{name}: kind says {', '.join(unknown[:3])}; known are {', '.join(KINDS)}"
        )
    if wrong := int((timed != (kinds == "time_to_event")).sum()):
        raise SchemaError(
            f"{name}: in {wrong} rows kind and horizon_hours contradict each other; "
            "time_to_event has a horizon, and no other kind has one"
        )
    if mixed := int((rows.assign(kind=kinds).groupby("task")["kind"].nunique() > 1).sum()):
        raise SchemaError(f"{name}: {mixed} tasks have more than one kind; name them apart")
    return kinds


def _observed(table: pd.DataFrame, is_timed: pd.Series) -> NDArray[np.float64]:
    """[N] 1 where the event was observed, 0 if censored; NaN where neither is asked."""
    if "label_observed" in table:
        return _numbers(table["label_observed"], "predictions", "label_observed")
    if n_timed := int(is_timed.sum()):
        raise SchemaError(
            f"predictions: {n_timed} rows have horizon_hours (time-to-event), and there is no "
            "column label_observed to tell events from censored rows; add it"
        )
    return np.full(len(table), np.nan)


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
    """Rows with `label` and `observed` from MEDS' columns, NaN where there is none."""
    kinds = set(rows["kind"])
    if "multilabel" in kinds or ((rows["class"] != "") & (rows["kind"] == "binary")).any():
        raise SchemaError(
            "labels: a frame of labels can't tell classes apart; put a column 'label' (0 or 1 for "
            "the row's class) into the predictions"
        )
    columns = sorted({column for kind in kinds for column in TRUTH[kind]})
    _require(labels, "labels", [*SAMPLE, *columns])
    truth = _read_samples(labels, "labels")
    on = SAMPLE
    if "task" in labels:
        truth["task"], on = _texts(labels, "labels", "task"), [*SAMPLE, "task"]
    elif rows["task"].nunique() > 1:
        raise SchemaError(
            f"labels: the predictions hold {rows['task'].nunique()} tasks; add a column 'task'"
        )
    for column in columns:
        is_text = column == "categorical_value"
        read = _class_names if is_text else partial(_numbers, name="labels", column=column)
        truth[column] = read(labels[column])
    _refuse_repeats(truth, on, "labels")
    joined = rows.merge(truth, on=on, how="left", validate="many_to_one")
    known = truth.merge(rows[on].drop_duplicates(), on=on, how="inner")
    if unknown := len(truth) - len(known):
        raise SchemaError(
            f"labels: {unknown} of {len(truth)} labels are for a sample (subject_id, "
            "prediction_time) that the predictions don't hold; keep only labels of scored samples"
        )
    joined["label"] = np.nan
    joined["observed"] = np.nan
    for kind in kinds:
        at, first = joined["kind"] == kind, joined[TRUTH[kind][0]]
        if kind == "multiclass":
            first = _is_class(joined, first)
        joined.loc[at, "label"] = first[at]
        if kind == "time_to_event":
            joined.loc[at, "observed"] = joined.loc[at, "boolean_value"]
    return joined.drop(columns=columns)


def _is_class(rows: pd.DataFrame, names: pd.Series) -> pd.Series:
    """1 where a row's class is the true one, 0 where another is, NaN where none of the task's is.

    A class without a row is one that the model doesn't know.
    """
    pairs = set(zip(rows["task"], rows["class"], strict=True))
    is_known = np.array([pair in pairs for pair in zip(rows["task"], names, strict=True)])
    said = ((rows["kind"] == "multiclass") & names.notna()).to_numpy()
    for task in rows.loc[said, "task"].unique():
        own = said & (rows["task"] == task).to_numpy()
        if not (own & is_known).any():
            raise SchemaError(
                f"labels: none of the values of categorical_value is a class of task {task!r}; "
                "write them as the predictions' column class does"
            )
    return (rows["class"] == names).astype(float).where(is_known)


def _join_baseline(rows: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    other = baseline.rename(columns={"score": "baseline"}).drop(columns="kind")
    return rows.merge(other, on=KEY, how="left", validate="one_to_one")


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


def _class_names(values: pd.Series, *, null: str | None = None) -> NDArray[np.object_]:
    """[N] texts; numbers that are whole but for pandas, which makes them decimal beside null."""
    if pd.api.types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        there = numbers[~np.isnan(numbers)]
        if (there == np.round(there)).all() and (np.abs(there) < 2**53).all():
            values = pd.Series(numbers).astype("Int64")
    # As an array: the index of a user's table says nothing, and may repeat.
    texts: NDArray[np.object_] = values.astype(str).to_numpy(dtype=object, copy=True)
    texts[values.isna().to_numpy()] = null
    return texts


def _numbers(values: pd.Series, name: str, column: str) -> NDArray[np.float64]:
    """float64 with NaN for null; numbers and booleans are accepted, text is not."""
    try:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"{name}: {column} is {values.dtype}, not a number; cast it") from error
    if infinite := int(np.isinf(numbers).sum()):
        raise SchemaError(f"{name}: {infinite} values of {column} are infinite; drop them")
    return numbers
