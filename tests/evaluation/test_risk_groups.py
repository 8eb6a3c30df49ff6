"""ECE and the Brier score's components, against definitions and libraries."""

from clinical.evaluation import evaluate
from clinical.evaluation.metrics import Scored, compute
from clinical.evaluation.risk_groups import ECE, RELIABILITY, RESOLUTION, UNCERTAINTY, RiskGroups

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

NAMES = ["Brier", ECE, RELIABILITY, RESOLUTION, UNCERTAINTY]


def computed(scores, labels, weights=None):
    weights = np.ones(len(scores)) if weights is None else weights
    values = compute(Scored.of(scores, labels), weights[None, :], NAMES)
    return {name: float(value[0]) for name, value in values.items()}


def drawn(n, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.beta(1, 3, n)
    return scores, (generator.random(n) < scores**1.3).astype(float)


def test_ece_and_components_have_the_values_worked_out_by_hand():
    # 20 of risk 0.1 of whom 4 have the event, and 20 of risk 0.4 of whom 6 have it.
    scores = np.repeat([0.1, 0.4], 20)
    labels = np.concatenate([np.repeat([1.0, 0.0], [4, 16]), np.repeat([1.0, 0.0], [6, 14])])
    values = computed(scores, labels)
    assert values[ECE] == pytest.approx((0.1 + 0.1) / 2)
    assert values[RELIABILITY] == pytest.approx(0.01)
    assert values[RESOLUTION] == pytest.approx(0.05**2)  # groups of 0.2 and 0.3 around 0.25
    assert values[UNCERTAINTY] == pytest.approx(0.25 * 0.75)


@given(st.integers(0, 2**32 - 1), st.integers(1, 90))
def test_components_are_those_of_stephenson_for_repeated_rows(seed, n):
    generator = np.random.default_rng(seed)
    scores = generator.random(n).round(1)
    labels = (generator.random(n) < 0.4).astype(float)
    weights = generator.integers(0, 3, n).astype(float)
    if not weights.any():
        return
    found = computed(scores, labels, weights)
    place = RiskGroups.of(scores, labels).place
    s, y, k = (np.repeat(each, weights.astype(int)) for each in (scores, labels, place))
    ece = reliability = resolution = within_variance = within_covariance = 0.0
    for group in np.unique(k):
        f, o = s[k == group], y[k == group]
        share = len(f) / len(s)
        ece += share * abs(f.mean() - o.mean())
        reliability += share * (f.mean() - o.mean()) ** 2
        resolution += share * (o.mean() - y.mean()) ** 2
        within_variance += share * f.var()
        within_covariance += share * 2 * ((f - f.mean()) * (o - o.mean())).mean()
    assert found[ECE] == pytest.approx(ece, abs=1e-12)
    assert found[RELIABILITY] == pytest.approx(reliability, abs=1e-12)
    generalised = resolution - within_variance + within_covariance
    assert found[RESOLUTION] == pytest.approx(generalised, abs=1e-12)
    assert found[UNCERTAINTY] == pytest.approx(y.mean() * (1 - y.mean()), abs=1e-12)


def test_reliability_less_resolution_plus_uncertainty_is_the_brier_score():
    values = computed(*drawn(777))
    total = values[RELIABILITY] - values[RESOLUTION] + values[UNCERTAINTY]
    assert total == pytest.approx(values["Brier"], abs=1e-15)


def test_ece_agrees_with_the_curve_of_scikit_learn():
    scores, labels = drawn(2004, seed=3)
    observed, predicted = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    size = np.bincount(RiskGroups.of(scores, labels).place)
    assert set(size) == {200, 201}
    expected = (size * np.abs(observed - predicted)).sum() / 2004
    assert computed(scores, labels)[ECE] == pytest.approx(expected, abs=1e-9)


def test_what_true_risks_would_have_by_chance_is_what_they_have():
    generator = np.random.default_rng(0)
    scores = generator.uniform(0.05, 0.6, 500)
    found = [
        computed(scores, (generator.random(500) < scores).astype(float))[ECE] for _ in range(400)
    ]
    expected = RiskGroups.of(scores, np.zeros(500)).expected_by_chance
    assert np.mean(found) == pytest.approx(expected, rel=0.06)


def test_the_interval_of_ece_lies_around_it_and_the_note_names_chance():
    scores, labels = drawn(300)
    table = pd.DataFrame(
        {
            "subject_id": np.arange(300),
            "prediction_time": pd.Timestamp("2150-01-01"),
            "task": "death",
            "score": scores,
            "label": labels,
        }
    )
    row = evaluate(table, resamples=200).table.set_index("metric").loc[ECE]
    assert row["low"] < row["value"] < row["high"]
    assert "true risks would have about 0.0" in row["note"]
    assert "interval is moved to the value" in row["note"]


def test_the_interval_of_what_is_never_negative_begins_at_zero_or_above():
    scores = np.tile([0.2, 0.7], 20)
    labels = np.concatenate([np.repeat([1.0, 0.0], [8, 12]) for _ in range(2)])
    table = pd.DataFrame(
        {
            "subject_id": np.arange(40),
            "prediction_time": pd.Timestamp("2150-01-01"),
            "task": "death",
            "score": scores,
            "label": labels,
        }
    )
    other = table.assign(score=np.tile([0.3, 0.5], 20))
    rows = evaluate(table, baseline=other, resamples=100).table.set_index("metric")
    for name in (ECE, RELIABILITY):
        assert rows.loc[name, "low"] >= 0
        assert rows.loc[name, "difference_low"] < rows.loc[name, "difference_high"]
    assert rows.loc[RELIABILITY, "baseline_low"] == 0


def test_few_rows_are_one_group():
    values = computed(np.array([0.2, 0.6]), np.array([0.0, 1.0]))
    assert values[ECE] == pytest.approx(0.1)


def people_of(parts, subjects, rows):
    return [len(np.unique(subjects[part[rows[part]]])) for part in parts]


def test_merged_groups_have_enough_people_of_each_outcome_in_the_order_of_risk():
    # Ties make groups of any size: here 1, 159, 20 and 20, of which the first is one patient.
    scores = np.full(200, 0.1)
    scores[0], scores[150:] = 0.05, np.linspace(0.2, 0.6, 50)
    labels = (np.random.default_rng(0).random(200) < 0.5).astype(float)
    groups, subjects = RiskGroups.of(scores, labels), np.arange(200)
    assert min(map(len, groups.parts)) == 1
    parts = groups.merged([labels == 0, labels == 1], subjects, 10)
    assert 1 < len(parts) < len(groups.parts)
    assert sorted(np.concatenate(parts)) == list(range(200))
    assert all(scores[a].max() <= scores[b].min() for a, b in pairwise(parts))
    for outcome in (0, 1):
        assert min(people_of(parts, subjects, labels == outcome)) >= 10


@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 15))
def test_merged_groups_count_people_and_lose_no_row(seed, n, smallest):
    scores, labels = drawn(n, seed)
    subjects = np.random.default_rng(seed).integers(0, max(n // 3, 1), n)
    sets = [labels == 0, labels == 1]
    parts = RiskGroups.of(scores.round(1), labels).merged(sets, subjects, smallest)
    assert sorted(np.concatenate(parts)) == list(range(n))
    if len(parts) > 1:
        assert min(min(people_of(parts, subjects, rows)) for rows in sets) >= smallest
