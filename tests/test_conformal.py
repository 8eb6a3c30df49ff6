"""Sets and intervals hold the truth as often as asked, for each class, whatever the model."""

import clinical  # noqa: F401
from clinical.answers import Binary, Multiclass, Multilabel, Regression, TimeToEvent
from clinical.conformal import PERCENTS, Conformal, check_coverage, fit_conformal
from clinical.errors import BundleError, ConfigError

import json
import math

import numpy as np
import pytest

NAN = np.nan
N_SPLITS, N_CASES = 20, 2000


def test_a_threshold_is_the_kth_smallest_of_n_plus_one():
    fitted = fit_conformal(np.array([3.0, NAN, 1, 2, 5, 4, 7, 6, 9, 8]))
    assert fitted.n == 9
    # ceil(10 * coverage): the 5th of 9, the 6th (5.1 rounded up), the 9th, and none from 0.91 on.
    assert fitted.threshold(0.5) == 5
    assert fitted.threshold(0.51) == 6
    assert fitted.threshold(0.9) == 9
    assert math.isinf(fitted.threshold(0.91))


def test_without_a_case_nothing_is_excluded():
    fitted = fit_conformal(np.array([NAN]))
    assert fitted.n == 0
    assert all(map(math.isinf, fitted.thresholds))


@pytest.mark.parametrize("coverage", [0.49, 1.0, 0.905, 90, NAN, -0.9])
def test_a_coverage_that_no_threshold_is_kept_for_is_refused(coverage):
    with pytest.raises(ConfigError, match="cannot be asked for"):
        check_coverage(coverage)


def test_every_whole_percentage_can_be_asked_for():
    assert [check_coverage(percent / 100) for percent in PERCENTS] == list(PERCENTS)


def test_thresholds_are_read_back_as_they_were_written():
    fitted = fit_conformal(np.arange(30.0))
    assert Conformal.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"n": 3},
        {"n": "many", "thresholds": [0.0] * len(PERCENTS)},
        {"n": 3, "thresholds": [1.0]},
        {"n": 3, "thresholds": [*range(len(PERCENTS))][::-1]},
        {"n": 3, "thresholds": [NAN] * len(PERCENTS)},
        {"n": -1, "thresholds": [0.0] * len(PERCENTS)},
        [],
    ],
)
def test_thresholds_that_cannot_be_are_a_bundle_error(content):
    with pytest.raises(BundleError, match="write the bundle again"):
        Conformal.from_json(content)


def test_rows_of_one_person_share_a_persons_weight():
    # Of four people, the third has rows 3 and 30, half a person each: 1, 2, 3, 4, 30 add up to
    # 1, 2, 2.5, 3.5 and 4 people. Asked for are 5 * coverage: 2.5, 2.55, 3.5, 3.55, 4 and 4.05.
    fitted = fit_conformal(np.array([30.0, 1, 2, 3, 4]), np.array([7, 9, 8, 7, 6]))
    assert fitted.n == 4
    found = {at: fitted.threshold(at) for at in (0.5, 0.51, 0.7, 0.71, 0.8, 0.81)}
    assert found == {0.5: 3, 0.51: 4, 0.7: 4, 0.71: 30, 0.8: 30, 0.81: math.inf}


def test_rows_without_a_truth_take_nothing_from_their_person():
    values, subjects = np.array([1.0, NAN, 2, NAN, 3]), np.array([1, 1, 2, 2, 3])
    assert fit_conformal(values, subjects) == fit_conformal(np.array([1.0, 2, 3]))


@pytest.mark.parametrize("n_rows", [2, 3, 24])
def test_a_row_seen_many_times_is_one_row(n_rows):
    values = np.random.default_rng(0).normal(size=49)
    many = fit_conformal(np.repeat(values, n_rows), np.repeat(np.arange(49), n_rows))
    assert many == fit_conformal(values)


# Coverage, of scores that are simulated: badly calibrated, and of classes that overlap


def one_each(rows):
    """Subjects of whom each has one row."""
    return np.arange(len(rows))


def binary_logits(draws, labels):
    return 3 * (1.3 * labels + draws.normal(size=len(labels))) - 4


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_of_yes_and_no_cover_each_within_one_percent(coverage):
    draws, held = np.random.default_rng(1), {0: [], 1: []}
    labels = np.repeat([0.0, 1.0], N_CASES)
    for _ in range(N_SPLITS):
        fitted = Binary().conform(
            binary_logits(draws, labels), labels[:, None], subjects=one_each(labels)
        )
        sets = Binary().sets(binary_logits(draws, labels), fitted, coverage)
        held[1].append(sets["in_set"][labels == 1, 0].mean())
        held[0].append(sets["other_in_set"][labels == 0, 0].mean())
    for found in held.values():
        assert np.mean(found) == pytest.approx(coverage, abs=0.01)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_of_classes_cover_each_class_within_one_percent_the_rarest_too(coverage):
    draws, answer = np.random.default_rng(2), Multiclass(("a", "b", "c"))
    calibrate, new = np.repeat([0, 1, 2], N_CASES), np.repeat([0, 1, 2], (6000, 3000, 1000))
    held = []

    def logits(labels):
        return 2 * (1.5 * np.eye(3)[labels] * [1, 2, 0.5] + draws.normal(size=(len(labels), 3)))

    for _ in range(N_SPLITS):
        fitted = answer.conform(
            logits(calibrate), calibrate[:, None].astype(float), subjects=one_each(calibrate)
        )
        inside = answer.sets(logits(new), fitted, coverage)["in_set"]
        held.append([inside[new == place, place].mean() for place in range(3)])
    np.testing.assert_allclose(np.mean(held, axis=0), coverage, atol=0.01)


def test_intervals_cover_within_one_percent():
    draws, answer, held = np.random.default_rng(3), Regression(10.0, 4.0), []

    def draw():
        value = draws.gamma(2, 4, N_CASES)
        return (value - 10) / 4 + draws.standard_t(3, N_CASES) / 4, value

    for _ in range(N_SPLITS):
        logits, value = draw()
        fitted = answer.conform(logits, value[:, None], subjects=one_each(value))
        logits, value = draw()
        interval = answer.sets(logits, fitted, 0.9)
        held.append(((interval["low"][:, 0] <= value) & (value <= interval["high"][:, 0])).mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.01)


def rolling(draws, n_people):
    """Absolute errors of stays whose lengths have a heavy tail, and which err more the longer."""
    n_rows = np.ceil(draws.lognormal(1.5, 1.2, n_people)).astype(int)
    own = draws.normal(0, np.sqrt(n_rows) / 4) + draws.normal(0, 0.3, n_people)
    error = np.repeat(own, n_rows) + draws.normal(0, 0.1, n_rows.sum())
    return np.abs(error), np.repeat(np.arange(n_people), n_rows)


def test_of_rolling_predictions_a_row_of_a_new_person_is_covered_as_often_as_asked():
    draws, held = np.random.default_rng(6), []
    for _ in range(200):
        threshold = fit_conformal(*rolling(draws, 60)).threshold(0.9)
        error, subjects = rolling(draws, 1000)
        held.append((np.bincount(subjects, error <= threshold) / np.bincount(subjects)).mean())
    # At 60 people, split conformal prediction covers from 0.9 to 0.9 + 1 / 61.
    assert 0.895 < np.mean(held) < 0.9 + 1 / 61
    # Of one row a person it would vary by sqrt(0.9 * 0.1 / 62), 0.038.
    assert np.std(held) < 0.045


def test_of_rolling_predictions_each_class_is_covered_by_itself():
    draws, held = np.random.default_rng(7), {0: [], 1: []}

    def draw(n_people):
        label, n_rows = draws.random(n_people) < 0.2, draws.integers(1, 40, n_people)
        own = binary_logits(draws, label) * (1 + n_rows / 40)
        whose = np.repeat(np.arange(n_people), n_rows)
        # An event is near in the last rows alone.
        near = label[whose] & (draws.random(len(whose)) < 0.3)
        return own[whose] + draws.normal(size=len(whose)), near.astype(float), whose

    for _ in range(100):
        logits, label, whose = draw(300)
        fitted = Binary().conform(logits, label[:, None], subjects=whose)
        logits, label, whose = draw(1000)
        sets = Binary().sets(logits, fitted, 0.8)
        for value, column in ((1, "in_set"), (0, "other_in_set")):
            inside, mine = sets[column][label == value, 0], whose[label == value]
            people = np.bincount(mine)
            each = np.bincount(mine, inside)[people > 0] / people[people > 0]
            held[value].append(each.mean())
    assert 0.795 < np.mean(held[0]) < 0.81
    assert 0.795 < np.mean(held[1]) < 0.83  # of some 55 people


def test_sets_of_several_labels_are_those_of_each_by_itself():
    draws = np.random.default_rng(4)
    labels = draws.integers(0, 2, (300, 2)).astype(float)
    logits = np.stack([binary_logits(draws, column) for column in labels.T], axis=1)
    both = Multilabel(("x", "y"))
    whose = one_each(labels)
    sets = both.sets(logits, both.conform(logits, labels, subjects=whose), 0.9)
    for place in range(2):
        column, label = logits[:, place], labels[:, [place]]
        fitted = Binary().conform(column, label, subjects=whose)
        alone = Binary().sets(column, fitted, 0.9)
        for name, values in alone.items():
            assert (sets[name][:, [place]] == values).all()


def test_higher_coverage_never_takes_a_class_out_of_a_set():
    draws = np.random.default_rng(5)
    labels = draws.integers(0, 2, 200).astype(float)
    logits = binary_logits(draws, labels)
    fitted = Binary().conform(logits, labels[:, None], subjects=one_each(labels))
    inside = [Binary().sets(logits, fitted, percent / 100)["in_set"] for percent in PERCENTS]
    assert (np.diff(np.stack(inside), axis=0) >= 0).all()


def test_what_may_be_censored_has_no_set():
    answer = TimeToEvent((24.0,), (24.0,))
    logits = np.zeros((5, 1))
    assert answer.conform(logits, np.ones((5, 2)), subjects=np.arange(5)) == {}
    assert answer.sets(logits, {}, 0.9) == {}
