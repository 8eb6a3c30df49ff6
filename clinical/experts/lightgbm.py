"""Gradient-boosted trees on flat features, fitted by LightGBM and kept in its text format."""

from clinical.errors import ConfigError
from clinical.experts.trees import Trees

import importlib.util
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

MIN_LEAF = 20
"""Samples of a leaf: of fewer it fits the noise of rare outcomes."""
TREES = 300
LEARNING_RATE = 0.03
SUFFIX = ".txt"


def smallest_leaf(n_samples: int) -> int:
    """Samples of a leaf; a quarter of very few, since no tree could split otherwise."""
    return min(MIN_LEAF, max(1, n_samples // 4))


def tree_parameters(n_samples: int, *, seed: int, threads: int) -> dict[str, Any]:
    """Of LightGBM, for yes-or-no labels."""
    return {
        "objective": "binary",
        "learning_rate": LEARNING_RATE,
        "num_leaves": 15,
        "min_data_in_leaf": smallest_leaf(n_samples),
        "feature_fraction": 0.3,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "seed": seed % 2**31,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }


@dataclass(frozen=True)
class LightGBM:
    """The trees of one task.

    Attributes:
        text: LightGBM's own format, which `lightgbm.Booster` reads too.
        trees: the same, to score with.
    """

    text: str
    trees: Trees

    @staticmethod
    def is_installed() -> bool:
        """Whether trees can be fitted here; scoring with fitted ones needs nothing more."""
        return importlib.util.find_spec("lightgbm") is not None

    @classmethod
    def check(cls) -> None:
        """Before anything is prepared.

        Raises:
            ConfigError: LightGBM is not installed.
        """
        if not cls.is_installed():
            raise ConfigError(
                "lightgbm is not installed; install it with `pip install 'clinical[trees]'`, or "
                "take it out of experts and finetune.teachers"
            )

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray, *, seed: int, threads: int) -> Self:
        """Fit trees.

        Args:
            features: [N, F], NaN where missing.
            labels: [N] 0 or 1, both present.
            seed: of the column and row sampling.
            threads: to fit with.
        """
        cls.check()
        import lightgbm

        parameters = tree_parameters(len(labels), seed=seed, threads=threads)
        data = lightgbm.Dataset(features, label=labels)
        booster = lightgbm.train(parameters, data, num_boost_round=TREES)
        return cls.read(booster.model_to_string())

    @classmethod
    def read(cls, text: str) -> Self:
        """The trees that `text` holds.

        Raises:
            BundleError: it is damaged.
        """
        return cls(text, Trees.parse(text))

    @property
    def n_features(self) -> int:
        """F, the features that it reads."""
        return self.trees.n_features

    def logit(self, features: np.ndarray) -> np.ndarray:
        """[N, F] features, NaN where missing -> [N] uncalibrated logits."""
        return self.trees.logit(features)
