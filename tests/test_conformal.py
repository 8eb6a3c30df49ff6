"""Sets and intervals hold the truth as often as asked, for each class, whatever the model."""

import clinical  # noqa: F401
from clinical.answers import Binary, Multiclass, Multilabel, Regression, TimeToEvent
from clinical.conformal import PERCENTS, Conformal, check_coverage, fit_conformal
from clinical.errors import BundleError, ConfigError

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

NAN = np.nan
N_SPLITS, N_CASES = 20, 2000


def test_a_threshold_is_above_the_kth_smallest_of_n_plus_one():
    fitted = fit_conformal(np.append(np.random.default_rng(0).permutation(19) + 1.0, NAN))
    assert fitted.n == 19
    # ceil(20 * coverage): the 10th of 19, the 11th (10.2 rounded up), the 19th, none from 0.96 on.
    # Quartiles are 5 and 15: 10 / (19 // 4) is 2.5, the step 2, the grid 2 / 3, 8 / 3, 14 / 3, ...
    assert fitted.threshold(0.5) == pytest.approx(32 / 3)
    assert fitted.threshold(0.51) == pytest.approx(38 / 3)
    assert fitted.threshold(0.95) == pytest.approx(62 / 3)
    assert math.isinf(fitted.threshold(0.96))


def test_of_fewer_than_ten_people_nothing_is_kept():
    values = np.repeat(np.arange(10.0), 5)
    assert math.isfinite(fit_conformal(values, np.repeat(np.arange(10), 5)).threshold(0.5))
    fitted = fit_conformal(values, np.repeat(np.arange(10) % 9, 5))
    assert fitted.n == 9
    assert all(map(math.isinf, fitted.thresholds))


@given(
    st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 2.5, -7.0]), min_size=10),
    st.integers(1, 4),
)
def test_no_threshold_is_a_patients_own_value_and_none_is_too_low(values, n_rows):
    known = np.sort(np.array(values))
    fitted = fit_conformal(np.repeat(known, n_rows), np.repeat(np.arange(len(known)), n_rows))
    assert not set(fitted.thresholds) & set(values)
    for percent in PERCENTS:
        k = -(-(len(known) + 1) * percent // 100)
        threshold = fitted.threshold(percent / 100)
        assert threshold > known[k - 1] if k <= len(known) else math.isinf(threshold)


def test_thresholds_of_few_tell_few_values_apart():
    values = np.random.default_rng(0).normal(size=40)
    finite = [t for t in fit_conformal(values).thresholds if math.isfinite(t)]
    assert len(finite) == 48
    # Ten steps between the quartiles, where 20 people are: some five from there to the median,
    # and those beyond, where people are further apart.
    assert len(set(finite)) <= 5 + 10


def test_values_that_are_all_alike_are_covered():
    for value in (0.0, -3.0, 1e9):
        fitted = fit_conformal(np.full(30, value))
        assert value < fitted.threshold(0.9) <= value + max(abs(value), 1)


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
    # Of 40 people, ten have rows 3 and 30, half a person each: 1, 2, 3, 4 and 30 add up to 10, 20,
    # 25, 35 and 40 people, of 41 * coverage that are asked for. Quartiles are 1 and 4, steps 1 / 4,
    # and a whole number is a third of a step below the grid.
    values = np.repeat([30.0, 1, 2, 3, 4], 10)
    fitted = fit_conformal(
        values, np.concatenate([np.arange(30), np.arange(10), 30 + np.arange(10)])
    )
    assert fitted.n == 40
    for at, expected in {0.5: 3, 0.6: 3, 0.61: 4, 0.85: 4, 0.86: 30, 0.97: 30}.items():
        assert fitted.threshold(at) == pytest.approx(expected + 1 / 12)
    assert math.isinf(fitted.threshold(0.98))


def test_rows_without_a_truth_take_nothing_from_their_person():
    values = np.where(np.arange(40) % 2 == 0, np.arange(40.0), NAN)
    assert fit_conformal(values, np.arange(40) // 2) == fit_conformal(values[::2])


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
        assert coverage - 0.003 < np.mean(found) < coverage + 0.01


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
    assert 0.897 < np.mean(held) < 0.91


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
    # At 60 people, split conformal prediction covers from 0.9 to 0.9 + 1 / 61, and the grid 0.5 %.
    assert 0.895 < np.mean(held) < 0.905 + 1 / 61
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
