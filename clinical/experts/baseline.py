"""The line beside every model: gradient-boosted trees on flat features of the same inputs."""

from clinical.experts.lightgbm import (
    LEARNING_RATE,
    TREES,
    LightGBM,
    smallest_leaf,
    tree_parameters,
)

from typing import Literal

import numpy as np

TreeKind = Literal["binary", "multiclass", "regression"]


def baseline_name() -> str:
    """The library that `baseline_scores` uses: LightGBM where installed, else scikit-learn."""
    return "LightGBM" if LightGBM.is_installed() else "HistGradientBoosting"


def baseline_scores(
    train: np.ndarray,
    labels: np.ndarray,
    others: np.ndarray,
    *,
    seed: int,
    threads: int,
    kind: TreeKind = "binary",
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Fit trees on train and score the others.

    Args:
        train: [N, F] features, NaN where missing.
        labels: [N] 0 or 1, both present; 0 to C - 1, the last one present; or values.
        others: [M, F] features of the samples to score.
        seed: of the column and row sampling.
        threads: to fit with.
        kind: of the labels.
        counts: [N] samples that each one stands for; itself alone if None.

    Returns:
        [M] probabilities, [M, C] probabilities, or [M] values.
    """
    if LightGBM.is_installed():
        import lightgbm

        parameters = tree_parameters(len(labels), seed=seed, threads=threads)
        parameters["objective"] = kind
        if kind == "multiclass":
            parameters["num_class"] = int(labels.max()) + 1
        data = lightgbm.Dataset(train, label=labels, weight=counts)
        return np.asarray(lightgbm.train(parameters, data, num_boost_round=TREES).predict(others))
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    settings = {
        "max_iter": TREES,
        "learning_rate": LEARNING_RATE,
        "min_samples_leaf": smallest_leaf(len(labels)),
        "early_stopping": False,
        "random_state": seed,
    }
    if kind == "regression":
        regressor = HistGradientBoostingRegressor(**settings).fit(train, labels, counts)
        return np.asarray(regressor.predict(others))
    model = HistGradientBoostingClassifier(**settings).fit(train, labels, counts)
    probabilities = np.zeros((len(others), int(labels.max()) + 1))
    probabilities[:, model.classes_.astype(int)] = model.predict_proba(others)
    return probabilities[:, 1] if kind == "binary" else probabilities
