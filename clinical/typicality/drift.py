"""Whether a cohort as a whole differs from the one a model was trained on, variable by variable."""

from clinical.typicality.tally import Tally

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ERROR = 0.05
"""The chance that any interval of a table misses what it is about, all of them together."""

TOLERATED = 0.05
"""A difference of which less than this is certain is no drift."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Variable:
    """A row of the table.

    Attributes:
        what: "everything" or "modality", of which typicality is compared, or "variable".
        modality: its name; None of everything.
        variable: its code; None of the others.
    """

    what: str
    modality: str | None = None
    variable: str | None = None


def drift_table(variables: Sequence[Variable], here: Tally, train: Tally) -> pd.DataFrame:
    """How the variables of a cohort differ from those in training.

    Two differences a variable: of the share of patients in whom it is observed, and the largest
    between the distribution functions of its level (Kolmogorov & Smirnov's statistic, at the train
    deciles and extremes). All intervals hold at once with 95 %: each is of Massart's inequality
    (1990, https://doi.org/10.1214/aop/1176990746) for both samples, at the error divided by the
    number of intervals. Weights of a patient's samples add up to 1, so that sums of weights are no
    more than the number of independent draws.

    Args:
        variables: [R] of the rows.
        here: of the cohort.
        train: of train, or of `calibrate` where typicality is compared.

    Returns:
        What `data_schemas/drift.json` lists, the most certain differences first.
    """
    known = (train.total > 0) & (here.total > 0) & (train.seen + here.seen > 0)
    n_intervals = 2 * max(int(known.sum()), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen, before = here.seen / here.total, train.seen / train.total
        around = _margin(here.total, n_intervals) + _margin(train.total, n_intervals)
        n_here, n_before = here.bins.sum(1), train.bins.sum(1)
        gaps = (np.cumsum(train.bins, 1).T / n_before - np.cumsum(here.bins, 1).T / n_here).T
        wide = _margin(n_here, n_intervals) + _margin(n_before, n_intervals)
    largest = gaps[np.arange(len(gaps)), np.abs(np.nan_to_num(gaps)).argmax(1)]
    shift = np.abs(largest)
    change = seen - before
    certain_change = np.maximum(np.abs(change) - around, 0)
    certain_shift = np.maximum(np.nan_to_num(shift - wide), 0)
    table = pd.DataFrame(
        {
            "what": [each.what for each in variables],
            "modality": pd.Series([each.modality for each in variables], dtype="string"),
            "variable": pd.Series([each.variable for each in variables], dtype="string"),
            # Parts of a person add up with the rounding of their shares.
            "patients": here.total.round(6),
            "seen": seen,
            "seen_in_train": before,
            "change_low": np.maximum(change - around, -1),
            "change_high": np.minimum(change + around, 1),
            "shift": shift,
            "shift_low": np.where(np.isnan(shift), np.nan, certain_shift),
            "shift_high": np.minimum(shift + wide, 1),
            "direction": pd.Series(_direction(largest), dtype="string"),
            "drifted": np.maximum(certain_change, certain_shift) > TOLERATED,
        }
    )
    certain = np.maximum(certain_change, certain_shift)
    order = np.lexsort((-np.nan_to_num(shift), -certain))
    return table.iloc[order[known[order]]].reset_index(drop=True)


def _margin(n: Floats, n_intervals: int) -> Floats:
    """How far an empirical distribution function of n draws may lie from the true one."""
    # Twice: for the sample here and the one in training.
    margin: Floats = np.sqrt(np.log(2 * 2 * n_intervals / ERROR) / (2 * n))
    return margin


def _direction(largest: Floats) -> list[str | None]:
    said = {1.0: "higher", -1.0: "lower"}
    return [said.get(float(np.sign(gap))) for gap in largest]
