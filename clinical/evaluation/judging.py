"""Judge a predictions table: what it says of each task, and how sure that is."""

from __future__ import annotations

from clinical.errors import ConfigError
from clinical.evaluation.evaluation import Evaluation
from clinical.evaluation.judged import Judged
from clinical.evaluation.parts import cost_table, split_parts
from clinical.evaluation.predictions import read_judged
from clinical.evaluation.table import metric_rows, tidy
from clinical.evaluation.thresholds import Thresholds, by_task, threshold_rows

from collections.abc import Sequence

import numpy as np
import pandas as pd


def evaluate(
    predictions: pd.DataFrame,
    labels: pd.DataFrame | None = None,
    *,
    baseline: pd.DataFrame | None = None,
    thresholds: Thresholds | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Judge scores against what happened, with 95 % bootstrap intervals resampled by subject.

    Args:
        predictions: columns subject_id, prediction_time, task, score, class where classes are
            scored, kind (of the task, as in the configuration; without it rows with horizon_hours
            are time_to_event and all others binary, each class against the rest), and label
            unless `labels` is given: 0 or 1 for the row's class, the value, or hours, with
            label_observed. Rows without a score or a label are left out and counted.
            With a column left_out, as `Predictor.leave_out` writes it, the rows where it is null
            are judged, and the others say in `Evaluation.costs` what each part is worth.
        labels: a frame in MEDS' label schema (subject_id, prediction_time, and boolean_value or
            what else the kind of task has) that takes the place of the column `label`; with a
            column task where there are several.
        baseline: other scores for the same samples, in the shape of `predictions`; both are then
            judged on the rows that have both, and the difference gets a paired interval.
        thresholds: scores from which on one would act: numbers (or names with numbers) for all
            yes-or-no tasks, or a mapping of these by task. They must not have been chosen on
            these patients: see `choose_thresholds`.
        resamples: bootstrap resamples.
        seed: of the bootstrap; the same seed gives the same intervals, whatever the rows' order.

    Raises:
        SchemaError: a table is not as described; the message says which, where and how many.
        ConfigError: `resamples` is below 1, or thresholds are not as described.
    """
    if resamples < 1:
        raise ConfigError(f"resamples: {resamples} is too few; 1000 is usual")
    whole, parts = split_parts(predictions)
    other = None if baseline is None else split_parts(baseline, "baseline")[0]
    judged = read_judged(whole, labels, other)
    rows = [
        row
        for one in judged
        for row in metric_rows(one, resamples=resamples, generator=np.random.default_rng(seed))
    ]
    costs = None
    if parts:
        found = cost_table(whole, parts, labels, resamples=resamples, seed=seed)
        costs = tidy(found)
    table = tidy(pd.DataFrame(rows))
    at = None if thresholds is None else _at_thresholds(judged, thresholds, resamples, seed)
    return Evaluation(table, tuple(judged), resamples, seed, costs, at)


def _at_thresholds(
    judged: Sequence[Judged], thresholds: Thresholds, resamples: int, seed: int
) -> pd.DataFrame:
    chosen = by_task(thresholds, judged)
    rows = [
        row
        for one in judged
        if one.name in chosen
        for row in threshold_rows(
            one,
            chosen[one.name],
            resamples=resamples,
            generator=np.random.default_rng(seed),
        )
    ]
    return tidy(pd.DataFrame(rows))
