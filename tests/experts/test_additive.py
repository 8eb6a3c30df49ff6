"""Curves: what they can bend to, what a missing value stands for, and what is refused."""

from clinical.errors import BundleError
from clinical.experts import additive
from clinical.experts.additive import Additive, Pieces

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

NAN = float("nan")


def outcomes(risk: np.ndarray, *, seed: int = 99) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(risk)) < risk).astype(float)


def test_a_curve_bends_between_the_train_values_and_is_flat_beyond():
    values = np.random.default_rng(0).uniform(-1, 1, size=(4000, 1))
    labels = outcomes(np.where(np.abs(values[:, 0]) < 0.5, 0.8, 0.2))
    expert = Additive.fit(values, labels, seed=0, threads=1)
    far, low, middle, high = expert.logit(np.array([[-9.0], [-1.0], [0.0], [1.0]]))
    assert middle > max(low, high) + 1.5
    assert far == low


def test_a_missing_value_stands_for_an_average_one_where_its_absence_says_nothing():
    draws = np.random.default_rng(0)
    values = draws.normal(size=(4000, 1))
    labels = outcomes(1 / (1 + np.exp(-2 * values[:, 0])))
    values[draws.random(4000) < 0.3] = NAN
    expert = Additive.fit(values, labels, seed=0, threads=1)
    missing = expert.logit(np.array([[NAN]]))[0]
    assert missing == pytest.approx(expert.logit(values[~np.isnan(values[:, 0])]).mean(), abs=0.15)


def test_an_absence_that_tells_counts():
    draws = np.random.default_rng(0)
    values = draws.normal(size=(4000, 2))
    values[draws.random(4000) < 0.3, 1] = NAN
    labels = outcomes(np.where(np.isnan(values[:, 1]), 0.7, 0.2))
    expert = Additive.fit(values, labels, seed=0, threads=1)
    there, gone = expert.logit(np.array([[0.0, 0.0], [0.0, NAN]]))
    assert gone - there > 1.5


def test_features_that_are_absent_together_share_one_gap():
    values = np.random.default_rng(0).normal(size=(100, 4))
    values[:30, :3] = NAN
    values[10:50, 3] = NAN
    assert Pieces.of(values).gap.tolist() == [0, 3]


def test_each_column_of_the_design_is_0_on_average():
    values = np.random.default_rng(0).exponential(size=(500, 3))
    values[:70, 1] = NAN
    np.testing.assert_allclose(Pieces.of(values).design(values).mean(axis=0), 0, atol=1e-6)


def test_what_hardly_varies_gets_no_piece():
    values = np.zeros((1000, 2))
    values[0, 0] = 1.0  # one code in a thousand samples
    values[:9, 1] = 1.0
    assert Pieces.of(values).feature.tolist() == [1]


@pytest.mark.parametrize(("events", "share"), [(5, 0.125), (20, 0.5), (60, 0.5)])
def test_the_sparse_fit_counts_for_less_where_few_labels_choose_the_curves(table, events, share):
    features, _ = table(200, seed=0)
    labels = (np.arange(200) < events).astype(float)
    fitted = Additive.fit(features, labels, seed=1, threads=1)
    design = fitted.pieces.design(features)
    dense, sparse = additive._dense(design, labels), additive._sparse(design, labels, 1)
    expected = (1 - share) * dense.coef_[0] + share * sparse.coef_[0]
    np.testing.assert_allclose(fitted.weight, expected, atol=1e-6)
    assert fitted.intercept == pytest.approx(
        (1 - share) * dense.intercept_[0] + share * sparse.intercept_[0], abs=1e-6
    )


def test_of_too_many_samples_a_random_part_is_fitted(monkeypatch):
    draws = np.random.default_rng(0)
    values = draws.normal(size=(3000, 2))
    labels = outcomes(1 / (1 + np.exp(2 - 3 * values[:, 0])))
    whole = Additive.fit(values, labels, seed=0, threads=1)
    seen = []
    design = Pieces.design
    monkeypatch.setattr(Pieces, "design", lambda self, f: seen.append(len(f)) or design(self, f))
    monkeypatch.setattr(additive, "MOST_CELLS", 600 * len(whole.pieces))
    part = Additive.fit(values, labels, seed=0, threads=1)
    assert 590 <= seen[0] <= 601
    assert part.text != whole.text
    assert roc_auc_score(labels, part.logit(values)) > 0.85


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("feature", [6]),
        ("feature", [-1]),
        ("feature", [0.7]),
        ("feature", ["0"]),
        ("feature", 0),
        ("low", [NAN]),
        ("high", [-1e9]),
        ("average", [1e308]),
        ("weight", []),
        ("weight", [[1.0]]),
        ("share", [0.1]),
        ("intercept", float("inf")),
        ("n_features", "six"),
        ("n_features", 0),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(table, field, value):
    raw = json.loads(Additive.fit(*table(200, seed=0), seed=1, threads=1).text)
    if isinstance(value, list) and value and field != "share":
        value = value + raw[field][1:]
    with pytest.raises(BundleError, match="additive"):
        Additive.read(json.dumps(raw | {field: value}))


def test_text_nested_without_end_is_refused():
    with pytest.raises(BundleError, match="additive"):
        Additive.read("[" * 100_000)
