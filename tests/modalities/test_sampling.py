from clinical.modalities import sampling
from clinical.modalities.sampling import Sample

import numpy as np
import pytest


def test_few_values_are_all_kept() -> None:
    sample = Sample(2, np.random.default_rng(0))
    sample.add(np.array([0, 1, 0]), np.array([1.0, 2.0, 3.0]))
    sample.add(np.array([1]), np.array([4.0]))
    values, variables = sample.get()
    assert sorted(zip(variables, values, strict=True)) == [(0, 1.0), (0, 3.0), (1, 2.0), (1, 4.0)]


def test_memory_is_bounded_and_the_rare_variable_keeps_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "VALUES_PER_VARIABLE", 100)
    sample = Sample(2, np.random.default_rng(0))
    for piece in range(50):
        variable = np.zeros(1000, int)
        variable[0] = 1
        sample.add(variable, np.full(1000, piece))
        assert len(sample.get()[0]) <= 2 * 100
    _, variables = sample.get()
    assert np.bincount(variables).tolist() == [100, 50]


def test_early_and_late_values_are_equally_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "VALUES_PER_VARIABLE", 2000)
    sample = Sample(1, np.random.default_rng(0))
    for piece in range(20):
        sample.add(np.zeros(1000, int), np.full(1000, piece))
    kept = np.bincount(sample.get()[0].astype(int), minlength=20)
    # Of 2,000 kept each piece has 100 in expectation, with a standard deviation below 10.
    assert kept.sum() == 2000
    assert np.abs(kept - 100).max() < 40


def test_the_same_seed_keeps_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "VALUES_PER_VARIABLE", 10)
    kept = []
    for _ in range(2):
        sample = Sample(1, np.random.default_rng(5))
        sample.add(np.zeros(100, int), np.arange(100))
        kept.append(sample.get()[0])
    assert np.array_equal(kept[0], kept[1])
