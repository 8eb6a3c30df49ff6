"""Small random batches, and tables of flat features with a planted signal."""

import clinical  # noqa: F401

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module of small random batches, loaded by path."""
    path = Path(__file__).resolve().parents[1] / "clinical_batches.py"
    spec = importlib.util.spec_from_file_location("clinical_batches", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def table() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`table(n, seed=...)`: features with gaps, and labels that the third of them tells."""

    def make(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        draws = np.random.default_rng(seed)
        features = draws.normal(size=(n, 6)).astype(np.float32)
        labels = (features[:, 2] + 0.5 * draws.normal(size=n) > 0).astype(np.float64)
        features[draws.random((n, 6)) < 0.1] = np.nan
        return features, labels

    return make
