"""Subjects dealt into folds: held out once each, a share of the others for tuning."""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

TUNING_SHARE = 0.1


def dealt(strata: np.ndarray, *, folds: int, repeat: int = 0) -> list[np.ndarray]:
    """For each fold, [N] the split of every subject, alike in the strata.

    Args:
        strata: [N] of the subjects, such as the outcome.
        folds: how many.
        repeat: another number deals anew.
    """
    found = []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=repeat)
    for fold, (rest, held_out) in enumerate(splitter.split(strata, strata)):
        split = np.full(len(strata), "train", dtype=object)
        split[held_out] = "held_out"
        # A seed of its own, or all folds would have nearly the same subjects in tuning.
        seed = 1000 * (repeat + 1) + fold
        inner = StratifiedKFold(round(1 / TUNING_SHARE), shuffle=True, random_state=seed)
        _, tuning = next(inner.split(strata[rest], strata[rest]))
        split[rest[tuning]] = "tuning"
        found.append(split)
    return found


def split_table(subjects: np.ndarray, split: np.ndarray) -> pd.DataFrame:
    """What a configuration's `splits:` names."""
    return pd.DataFrame({"subject_id": subjects, "split": split.astype(str)})
