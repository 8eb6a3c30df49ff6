"""The line beside every model: gradient-boosted trees on flat features of the same inputs."""

import importlib.util

import numpy as np

# A leaf of few stays fits the noise of rare outcomes.
MIN_LEAF = 20
TREES = 300
LEARNING_RATE = 0.03


def baseline_name() -> str:
    """The library that `fit_baseline` uses: LightGBM where installed, else scikit-learn."""
    return "LightGBM" if importlib.util.find_spec("lightgbm") else "HistGradientBoosting"


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
    if baseline_name() == "LightGBM":
        return _lightgbm(train, labels, others, seed=seed, threads=threads)
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=TREES,
        learning_rate=LEARNING_RATE,
        min_samples_leaf=MIN_LEAF,
        early_stopping=False,
        random_state=seed,
    )
    model.fit(train, labels)
    return np.asarray(model.predict_proba(others)[:, 1])


def _lightgbm(
    train: np.ndarray, labels: np.ndarray, others: np.ndarray, *, seed: int, threads: int
) -> np.ndarray:
    import lightgbm

    parameters = {
        "objective": "binary",
        "learning_rate": LEARNING_RATE,
        "num_leaves": 15,
        "min_data_in_leaf": MIN_LEAF,
        "feature_fraction": 0.3,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(train, label=labels)
    model = lightgbm.train(parameters, data, num_boost_round=TREES)
    return np.asarray(model.predict(others))
