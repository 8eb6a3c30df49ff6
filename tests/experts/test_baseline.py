"""The line beside every model: trees of either library."""

from clinical.experts.baseline import baseline_name, baseline_scores
from clinical.experts.lightgbm import LightGBM

import numpy as np
import pytest


@pytest.fixture(params=["LightGBM", "HistGradientBoosting"])
def library(request, monkeypatch) -> str:
    if request.param == "LightGBM":
        pytest.importorskip("lightgbm")
    else:
        monkeypatch.setattr(LightGBM, "is_installed", lambda: False)
    return str(request.param)


def test_trees_find_a_planted_signal_in_features_with_gaps(library, table):
    assert baseline_name() == library
    train, labels = table(400, seed=0)
    others, truth = table(300, seed=1)
    scores = baseline_scores(train, labels, others, seed=0, threads=1)
    assert scores.shape == (300,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores[truth == 1][:, None] > scores[truth == 0]).mean() > 0.85


def test_the_same_seed_gives_the_same_trees(library, table):
    train, labels = table(200, seed=0)
    others, _ = table(50, seed=1)
    first, second = (baseline_scores(train, labels, others, seed=3, threads=1) for _ in "ab")
    assert np.array_equal(first, second)
