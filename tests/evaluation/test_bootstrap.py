from clinical.evaluation import bootstrap as module
from clinical.evaluation.bootstrap import bootstrap, percentile_interval, resample_weights
from clinical.evaluation.metrics import Scored, compute

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score


def simulated(n, seed, rows_each=1):
    generator = np.random.default_rng(seed)
    scores = generator.beta(1, 3, n)
    labels = (generator.random(n) < scores).astype(float)
    return scores, labels, np.arange(n) // rows_each


def values_of(scores, labels, subjects, *, resamples=200, seed=0):
    scored = Scored.of(scores, labels)
    (values,) = bootstrap(
        [lambda weights: compute(scored, weights)],
        subjects,
        resamples=resamples,
        generator=np.random.default_rng(seed),
    )
    return values


def test_a_resample_draws_whole_subjects_as_many_as_there_are():
    subjects = np.array([7, 7, 7, 2, 9, 9, 4])
    weights = np.concatenate(list(resample_weights(subjects, 50, np.random.default_rng(0))))
    assert weights.shape == (50, 7)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 4], weights[:, 5])
    np.testing.assert_array_equal(weights[:, [0, 3, 4, 6]].sum(axis=1), 4)
    assert len(np.unique(weights, axis=0)) > 10


def test_values_equal_those_of_a_loop_that_copies_rows():
    scores, labels, subjects = simulated(120, 1, rows_each=3)
    scores = scores.round(1)
    values = values_of(scores, labels, subjects, resamples=40, seed=5)
    generator = np.random.default_rng(5)
    for resample in range(40):
        drawn = generator.integers(0, 40, size=40)
        rows = np.concatenate([np.flatnonzero(subjects == subject) for subject in drawn])
        expected = roc_auc_score(labels[rows], scores[rows])
        assert values["AUROC"][resample] == pytest.approx(expected, abs=1e-12)
        expected = np.mean((scores[rows] - labels[rows]) ** 2)
        assert values["Brier"][resample] == pytest.approx(expected, abs=1e-12)


def test_the_size_of_a_block_changes_nothing(monkeypatch):
    data = simulated(60, 2)
    whole = values_of(*data)
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 60 * 7)  # 7 resamples a block, a last one of 4
    sizes = [len(block) for block in resample_weights(data[2], 200, np.random.default_rng(0))]
    assert max(sizes) == 7
    assert sum(sizes) == 200
    in_blocks = values_of(*data)
    for name, values in whole.items():
        np.testing.assert_allclose(in_blocks[name], values, rtol=1e-12, err_msg=name)


def test_copies_of_a_subjects_rows_do_not_narrow_the_interval():
    scores, labels, subjects = simulated(150, 3)
    once = percentile_interval(values_of(scores, labels, subjects)["AUROC"])
    copied = percentile_interval(
        values_of(np.repeat(scores, 4), np.repeat(labels, 4), np.repeat(subjects, 4))["AUROC"]
    )
    assert copied.low == pytest.approx(once.low, abs=1e-12)
    assert copied.high == pytest.approx(once.high, abs=1e-12)


def test_an_interval_is_the_central_95_percent_of_the_values_that_exist():
    values = np.append(np.arange(201.0), [np.nan] * 7)
    np.random.default_rng(0).shuffle(values)
    interval = percentile_interval(values)
    assert (interval.low, interval.high) == pytest.approx((5.0, 195.0), abs=1e-9)
    assert interval.skipped == 7


def test_an_interval_is_not_defined_when_most_resamples_have_no_value():
    interval = percentile_interval(np.array([0.1, 0.2, np.nan, np.nan]))
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.skipped == 2


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # Scores are uniform and true risks: AUROC is 5/6 (integral of 2s against 2(1 - s)), Brier 1/6.
    covered = {"AUROC": 0, "Brier": 0, "calibration intercept": 0, "calibration slope": 0}
    truth = {"AUROC": 5 / 6, "Brier": 1 / 6, "calibration intercept": 0, "calibration slope": 1}
    generator = np.random.default_rng(4)
    for _ in range(200):
        scores = generator.random(400)
        labels = (generator.random(400) < scores).astype(float)
        values = values_of(scores, labels, np.arange(400))
        for name in covered:
            interval = percentile_interval(values[name])
            covered[name] += interval.low <= truth[name] <= interval.high
    # 200 repeats: three standard errors below and above 95 % are 90.4 % and 99.6 %.
    assert all(181 <= hits <= 199 for hits in covered.values()), covered
