"""The line beside every model: gradient-boosted trees on flat features of the same inputs."""

from clinical.calibration import sigmoid
from clinical.experts.lightgbm import LEARNING_RATE, TREES, LightGBM, smallest_leaf

import numpy as np


def baseline_name() -> str:
    """The library that `baseline_scores` uses: LightGBM where installed, else scikit-learn."""
    return "LightGBM" if LightGBM.is_installed() else "HistGradientBoosting"


def baseline_scores(
    train: np.ndarray, labels: np.ndarray, others: np.ndarray, *, seed: int, threads: int
) -> np.ndarray:
    """Fit trees on train and score the others.

    Args:
        train: [N, F] features, NaN where missing.
        labels: [N] 0 or 1, both present.
        others: [M, F] features of the samples to score.
        seed: of the column and row sampling.
        threads: to fit with.

    Returns:
        [M] probabilities.
    """
    if LightGBM.is_installed():
        fitted = LightGBM.fit(train, labels, seed=seed, threads=threads)
        return sigmoid(fitted.logit(others))
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=TREES,
        learning_rate=LEARNING_RATE,
        min_samples_leaf=smallest_leaf(len(labels)),
        early_stopping=False,
        random_state=seed,
    )
    model.fit(train, labels)
    return np.asarray(model.predict_proba(others)[:, 1])
