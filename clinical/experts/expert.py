"""What every expert is: fitted on flat features, kept as plain text, asked for logits."""

from typing import Protocol, Self

import numpy as np


class Expert(Protocol):
    """One task's model beside the networks; see `lightgbm.py` for one."""

    @property
    def text(self) -> str:
        """All of it as plain text, for the bundle."""

    @property
    def n_features(self) -> int:
        """F, the features that it reads."""

    @classmethod
    def check(cls) -> None:
        """Refuse, before anything is prepared, what cannot be fitted here.

        Raises:
            ConfigError: a library is missing.
        """

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray, *, seed: int, threads: int) -> Self:
        """Fit on features [N, F], NaN where missing, and labels [N], both classes present."""

    @classmethod
    def read(cls, text: str) -> Self:
        """What `text` holds; nothing in it is executed.

        Raises:
            BundleError: it is damaged.
        """

    def logit(self, features: np.ndarray) -> np.ndarray:
        """[N, F] features, NaN where missing -> [N] uncalibrated logits."""
