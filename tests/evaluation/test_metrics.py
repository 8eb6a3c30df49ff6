from clinical.evaluation.metrics import NAMES, Scored, compute

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

# Coarse scores, so that ties are the rule; 0 and 1 among them.
ROWS = st.lists(
    st.tuples(st.integers(0, 6).map(lambda k: k / 6), st.booleans(), st.integers(0, 3)),
    min_size=1,
    max_size=25,
)


def metrics(scores, labels, weights=None):
    """Every metric as a float, for one weighting."""
    scores, labels = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=float)
    values = compute(Scored.of(scores, labels), weights[None, :])
    assert list(values) == list(NAMES)
    return {name: float(value[0]) for name, value in values.items()}


def naive_auroc(scores, labels, weights):
    above = total = 0.0
    for s, y, w in zip(scores, labels, weights, strict=True):
        for t, z, v in zip(scores, labels, weights, strict=True):
            if y == 1 and z == 0:
                above += w * v * ((s > t) + 0.5 * (s == t))
                total += w * v
    return above / total


def naive_min_se_ppv(scores, labels):
    best = 0.0
    for threshold in set(scores):
        called = [y for s, y in zip(scores, labels, strict=True) if s >= threshold]
        best = max(best, min(sum(called) / sum(labels), sum(called) / len(called)))
    return best


@given(ROWS)
def test_weighted_metrics_equal_those_of_repeated_rows(rows):
    scores, labels, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    values = metrics(scores, labels, weights)
    s, y = (np.repeat(column, weights.astype(int)) for column in (scores, labels))
    if len(y) == 0:
        assert all(math.isnan(value) for value in values.values())
        return
    assert values["Brier"] == pytest.approx(np.mean((s - y) ** 2), abs=1e-12)
    assert values["log loss"] == pytest.approx(log_loss(y, s, labels=[0, 1]), abs=1e-9)
    if 0 < y.sum() < len(y):
        assert values["AUROC"] == pytest.approx(roc_auc_score(y, s), abs=1e-12)
        assert values["AUROC"] == pytest.approx(naive_auroc(scores, labels, weights), abs=1e-12)
        assert values["AUPRC (average precision)"] == pytest.approx(
            average_precision_score(y, s), abs=1e-12
        )
        assert values["min(Se, +P)"] == pytest.approx(naive_min_se_ppv(s, y), abs=1e-12)
    else:
        assert math.isnan(values["AUROC"])
        assert math.isnan(values["AUPRC (average precision)"])
        assert math.isnan(values["min(Se, +P)"])
        assert math.isnan(values["scaled Brier"])


def test_metrics_agree_with_scikit_learn_on_continuous_scores():
    generator = np.random.default_rng(0)
    scores = generator.beta(1, 5, 3_000)
    scores[::7] = scores[3]  # one large tie
    labels = (generator.random(3_000) < scores).astype(float)
    values = metrics(scores, labels)
    assert values["AUROC"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    expected = average_precision_score(labels, scores)
    assert values["AUPRC (average precision)"] == pytest.approx(expected, abs=1e-9)
    assert values["Brier"] == pytest.approx(brier_score_loss(labels, scores), abs=1e-9)
    assert values["log loss"] == pytest.approx(log_loss(labels, scores), abs=1e-9)


def test_ranking_metrics_have_the_values_worked_out_by_hand():
    values = metrics([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0])
    assert values["AUROC"] == 3 / 4
    assert values["AUPRC (average precision)"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert values["min(Se, +P)"] == pytest.approx(2 / 3)


def test_risk_metrics_have_the_values_worked_out_by_hand():
    values = metrics([0.8, 0.4, 0.3], [1, 0, 0])
    brier = (0.04 + 0.16 + 0.09) / 3
    assert values["Brier"] == pytest.approx(brier)
    assert values["scaled Brier"] == pytest.approx(1 - brier / (1 / 3 * 2 / 3))
    assert values["log loss"] == pytest.approx(-(math.log(0.8 * 0.6 * 0.7)) / 3)
    assert values["observed / expected"] == pytest.approx(1 / 1.5)


def test_the_calibration_intercept_is_the_log_odds_left_over():
    # Everybody is given 1 in 2 and 3 of 10 have the event: logit(0.3) - logit(0.5).
    values = metrics([0.5] * 10, [1] * 3 + [0] * 7)
    assert values["calibration intercept"] == pytest.approx(math.log(3 / 7), abs=1e-12)
    assert math.isnan(values["calibration slope"])


def test_the_calibration_slope_is_the_one_through_two_groups():
    # Risks of 0.2 and 0.8 where 3 of 10 and 6 of 10 have the event: a line meets both exactly.
    values = metrics([0.2] * 10 + [0.8] * 10, [1] * 3 + [0] * 7 + [1] * 6 + [0] * 4)
    expected = (math.log(6 / 4) - math.log(3 / 7)) / (2 * math.log(4))
    assert values["calibration slope"] == pytest.approx(expected, abs=1e-12)


@given(ROWS)
def test_weighted_recalibration_solves_its_score_equations(rows):
    scores, labels, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    scored = Scored.of(scores, labels)
    a = float(scored.intercept.fit(weights[None, :])[0])
    drawn = weights > 0
    y, z, w = labels[drawn], scored.logit[drawn], weights[drawn]
    has_both = bool(len(y)) and 0 < y.sum() < len(y)
    assert math.isfinite(a) == has_both
    if not has_both:
        assert math.isnan(scored.slope.fit(weights[None, :])[0])
        return
    assert w @ (y - 1 / (1 + np.exp(-(a + z)))) == pytest.approx(0, abs=1e-8)
    b = float(scored.slope.fit(weights[None, :])[0])
    positive, negative = z[y == 1], z[y == 0]
    overlap = positive.min() < negative.max() and negative.min() < positive.max()
    assert math.isfinite(b) == overlap
    if overlap:
        # Given the slope, the intercept follows from the first equation; the second must hold.
        low, high = -500.0, 500.0
        for _ in range(200):
            middle = (low + high) / 2
            excess = w @ (y - 1 / (1 + np.exp(-(middle + b * z))))
            low, high = (middle, high) if excess > 0 else (low, middle)
        risk = 1 / (1 + np.exp(-(low + b * z)))
        assert (w * z) @ (y - risk) == pytest.approx(0, abs=1e-6)


def test_many_weightings_at_once_equal_each_alone():
    generator = np.random.default_rng(1)
    scores = generator.random(40).round(1)
    labels = (generator.random(40) < scores).astype(float)
    weights = generator.integers(0, 3, (60, 40)).astype(float)
    weights[0, labels == 1] = 0  # one class
    weights[1] = (scores == 0.5).astype(float)  # one score
    together = compute(Scored.of(scores, labels), weights)
    for row, alone in enumerate(weights):
        for name, value in compute(Scored.of(scores, labels), alone[None, :]).items():
            assert together[name][row] == pytest.approx(value[0], abs=1e-10, nan_ok=True)
    assert math.isnan(together["AUROC"][0])
    assert math.isnan(together["calibration slope"][1])


def test_the_same_score_for_all_is_chance():
    values = metrics([0.3] * 8, [1, 0, 0, 0, 1, 0, 0, 0])
    assert values["AUROC"] == 0.5
    assert values["AUPRC (average precision)"] == 0.25


def test_scores_of_zero_and_one_have_finite_recalibration():
    values = metrics([0, 0, 1, 1, 0.5], [0, 1, 1, 0, 1])
    assert math.isfinite(values["calibration intercept"])
    assert math.isfinite(values["calibration slope"])
    assert math.isfinite(values["log loss"])
