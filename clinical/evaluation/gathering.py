"""From rows of a predictions table to what is judged together."""

from __future__ import annotations

from clinical.config import TaskKind
from clinical.errors import SchemaError
from clinical.evaluation.judged import Judged

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SAMPLE = ["subject_id", "prediction_time"]
SHARES_APART = 1e-3
"""How far the scores of exclusive classes may be from 1 together: they may be rounded."""


def judged_task(rows: pd.DataFrame) -> list[Judged]:
    """Of one task: of all its classes or horizons together, then of each.

    Args:
        rows: subject_id, prediction_time, task, class (an empty text where there is none),
            horizon_hours, kind, score, label, observed, and baseline where there is one.

    Raises:
        SchemaError: a score or a label is none of its kind of task.
    """
    kind: TaskKind = rows["kind"].iloc[0]
    if kind in ("multiclass", "multilabel"):
        apart = rows.groupby("class", sort=False)
        return [_judged_classes(rows, kind), *(_judged(group, "binary") for _, group in apart)]
    apart = rows.groupby("horizon_hours" if kind == "time_to_event" else "class", sort=False)
    each = [_judged(group, kind) for _, group in apart]
    return [_judged_horizons(rows), *each] if kind == "time_to_event" and len(each) > 1 else each


def _judged(rows: pd.DataFrame, kind: TaskKind) -> Judged:
    """The rows of one task, horizon and class that can be judged."""
    is_timed = kind == "time_to_event"
    has_score, has_label = rows["score"].notna(), rows["label"].notna()
    if is_timed:
        has_label &= rows["observed"].notna()
    has_baseline = rows["baseline"].notna() if "baseline" in rows else has_score
    usable = rows[has_score & has_label & has_baseline]
    _check_labels(rows.loc[has_label, "label"], kind, str(rows["task"].iloc[0]))
    return Judged(
        task=str(rows["task"].iloc[0]),
        label_class=str(rows["class"].iloc[0]) or None,
        subjects=usable["subject_id"].to_numpy(),
        times=usable["prediction_time"].to_numpy(),
        scores=usable["score"].to_numpy(),
        labels=usable["label"].to_numpy(),
        baseline=usable["baseline"].to_numpy() if "baseline" in rows else None,
        without_score=int((~has_score).sum()),
        without_label=int((has_score & ~has_label).sum()),
        without_baseline=int((has_score & has_label & ~has_baseline).sum()),
        kind=kind,
        observed=usable["observed"].to_numpy() == 1 if is_timed else None,
        horizon_hours=float(rows["horizon_hours"].iloc[0]) if is_timed else None,
    )


def _judged_classes(rows: pd.DataFrame, kind: TaskKind) -> Judged:
    """The samples of one task that can be judged by all their classes together."""
    task, names = str(rows["task"].iloc[0]), list(dict.fromkeys(rows["class"]))
    wide = _wide(rows, "class", names)
    samples = _samples(rows, "class")
    labels = wide["label"]
    _check_labels(rows["label"].dropna(), kind, task)
    known = ~np.isnan(labels)
    has_label = known.any(axis=1) if kind == "multilabel" else known.all(axis=1)
    if kind == "multiclass" and (wrong := int((labels[has_label].sum(axis=1) != 1).sum())):
        raise SchemaError(
            f"predictions: {wrong} samples of task {task!r} have none or several classes labelled "
            "1; multiclass has exactly one, multilabel any number"
        )
    has_score = ~np.isnan(wide["score"]).any(axis=1)
    has_baseline = has_score
    if kind == "multiclass":
        for column in ("score", "baseline"):
            if column in wide:
                _check_shares(wide[column], task, column)
    if "baseline" in wide:
        has_baseline = ~np.isnan(wide["baseline"]).any(axis=1)
    usable = has_score & has_label & has_baseline
    return Judged(
        task=task,
        label_class=None,
        subjects=samples["subject_id"].to_numpy()[usable],
        times=samples["prediction_time"].to_numpy()[usable],
        scores=wide["score"][usable],
        labels=labels[usable],
        baseline=wide["baseline"][usable] if "baseline" in wide else None,
        without_score=int((~has_score).sum()),
        without_label=int((has_score & ~has_label).sum()),
        without_baseline=int((has_score & has_label & ~has_baseline).sum()),
        kind=kind,
    )


def _judged_horizons(rows: pd.DataFrame) -> Judged:
    """The samples of one time-to-event task that can be judged by all their horizons together."""
    horizons = sorted(set(rows["horizon_hours"]))
    wide, samples = _wide(rows, "horizon_hours", horizons), _samples(rows, "horizon_hours")
    # What happened is the same for every horizon; a sample may lack rows.
    happened = rows.dropna(subset=["label", "observed"]).drop_duplicates(SAMPLE)
    known = samples.merge(happened[[*SAMPLE, "label", "observed"]], on=SAMPLE, how="left")
    has_score = ~np.isnan(wide["score"]).any(axis=1)
    has_label = known["label"].notna().to_numpy()
    has_baseline = has_score
    if "baseline" in wide:
        has_baseline = ~np.isnan(wide["baseline"]).any(axis=1)
    usable = has_score & has_label & has_baseline
    return Judged(
        task=str(rows["task"].iloc[0]),
        label_class=None,
        subjects=samples["subject_id"].to_numpy()[usable],
        times=samples["prediction_time"].to_numpy()[usable],
        scores=wide["score"][usable],
        labels=known["label"].to_numpy()[usable],
        baseline=wide["baseline"][usable] if "baseline" in wide else None,
        without_score=int((~has_score).sum()),
        without_label=int((has_score & ~has_label).sum()),
        without_baseline=int((has_score & has_label & ~has_baseline).sum()),
        kind="time_to_event",
        observed=known["observed"].to_numpy()[usable] == 1,
        horizons=tuple(float(hours) for hours in horizons),
    )


def _wide(
    rows: pd.DataFrame, across: str, names: list[str] | list[float]
) -> dict[str, NDArray[np.float64]]:
    """Score, label and baseline, each with a row a sample and a column a class or horizon."""
    return {
        column: rows.pivot(index=SAMPLE, columns=across, values=column)[names].to_numpy()
        for column in ("score", "label", "baseline")
        if column in rows
    }


def _samples(rows: pd.DataFrame, across: str) -> pd.DataFrame:
    """The samples behind the rows of `_wide`."""
    return rows.pivot(index=SAMPLE, columns=across, values="score").index.to_frame(index=False)


def _check_shares(scores: NDArray[np.float64], task: str, column: str) -> None:
    """A log loss of scores that add up to more than 1 would be lower than any model's."""
    total = scores.sum(axis=1)  # NaN where a class has no score: not judged
    if wrong := int((np.abs(total - 1) > SHARES_APART).sum()):
        raise SchemaError(
            f"predictions: {wrong} samples of task {task!r} have a {column} of all classes that "
            "does not add up to 1; give a score for every class and divide by their sum, or say "
            "multilabel in the column kind if several classes may be true"
        )


def _check_labels(labels: pd.Series, kind: TaskKind, task: str) -> None:
    if kind == "time_to_event" and (wrong := int((labels < 0).sum())):
        raise SchemaError(
            f"predictions: {wrong} labels of task {task!r} are negative hours; leave them out"
        )
    is_yes_or_no = kind not in ("time_to_event", "regression")
    if is_yes_or_no and (wrong := int((~labels.isin([0.0, 1.0])).sum())):
        raise SchemaError(
            f"predictions: {wrong} labels of task {task!r} are neither 0 nor 1; evaluate judges "
            "risks with a yes-or-no label, or values where a column kind says regression"
        )
