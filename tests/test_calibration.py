from clinical.calibration import (
    KINDS,
    SMALLEST_SLOPE,
    Calibration,
    fit_calibration,
    fit_logistic,
    fit_temperature,
    fitting,
    simplest_near_best,
)
from clinical.errors import BundleError, SchemaError

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def logit(p):
    return math.log(p / (1 - p))


def simulated(n, seed, risk):
    """Logits as a model might give them, and labels that follow `risk(logit)`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-1, 1.5, n)
    return logits, (generator.random(n) < risk(logits)).astype(float)


def mean_log_loss(probability, labels):
    return -np.mean(np.where(labels == 1, np.log(probability), np.log1p(-probability)))


def test_platts_line_has_the_values_worked_out_by_hand():
    # At logit 1 stand 15 positives and 5 negatives, at -1 the rest: the line of 40 samples alone
    # has the slope logit(0.75), 1.0986. The prior, 16 / 2 * (slope - 1)^2, pulls as hard as they do
    # where 40 * (sigmoid(slope) - 0.75) + 16 * (slope - 1) = 0.
    logits = np.repeat([1.0, 1.0, -1.0, -1.0], [15, 5, 5, 15])
    labels = np.repeat([1.0, 0.0, 1.0, 0.0], [15, 5, 5, 15])
    fitted = fit_calibration(logits, labels)
    assert fitted.kind == "platt"
    assert 1 < fitted.slope_low < logit(0.75)
    pull = 40 * (sigmoid(fitted.slope_low) - 0.75) + 16 * (fitted.slope_low - 1)
    assert pull == pytest.approx(0.0, abs=1e-6)
    assert fitted.slope_low == fitted.slope_high
    assert fitted.intercept == pytest.approx(0.0, abs=1e-6)


def test_the_kind_that_made_the_data_is_found():
    def beta(z):
        p = sigmoid(z)
        return sigmoid(-0.5 + 2.5 * np.log(p) - 0.3 * np.log1p(-p))

    platt = fit_calibration(*simulated(20_000, 0, lambda z: sigmoid(0.8 + 0.5 * z)))
    assert platt.kind == "platt"
    assert platt.intercept == pytest.approx(0.8, abs=0.06)
    assert platt.slope_high == pytest.approx(0.5, abs=0.04)
    bent = fit_calibration(*simulated(20_000, 1, beta))
    assert bent.kind == "beta"
    assert bent.slope_low == pytest.approx(2.5, abs=0.2)
    assert bent.slope_high == pytest.approx(0.3, abs=0.1)
    tempered = fit_calibration(*simulated(20_000, 2, lambda z: sigmoid(2 * z)))
    assert tempered.kind == "temperature"
    grid = np.linspace(-4, 3, 50)
    assert np.abs(tempered.apply(grid) - sigmoid(2 * grid)).max() < 0.03


def test_calibrated_scores_are_left_alone():
    logits, labels = simulated(20_000, 4, sigmoid)
    fitted = fit_calibration(logits, labels)
    assert fitted.kind == "identity"
    assert np.abs(fitted.apply(logits) - sigmoid(logits)).max() < 0.02


def test_a_kind_that_is_clearly_better_is_chosen():
    fitted = fit_calibration(*simulated(500, 5, lambda z: sigmoid(1 + 0.3 * z)))
    assert set(fitted.log_loss) == set(KINDS)
    assert fitted.log_loss[fitted.kind] < fitted.log_loss["identity"] - 0.1


def test_beta_seldom_wins_where_platts_line_made_the_data():
    fits = [
        fit_calibration(*simulated(400, seed, lambda z: sigmoid(0.8 + 0.5 * z)))
        for seed in range(20)
    ]
    lowest = [min(fit.log_loss, key=lambda kind: fit.log_loss[kind]) for fit in fits]
    # It can follow nothing but chance there, and lowest losses alone let it.
    assert lowest.count("beta") >= 6
    assert [fit.kind for fit in fits].count("beta") <= 2


def test_the_simplest_kind_within_one_standard_error_is_chosen():
    # Beta is best. Over four samples platt loses by 1, 1, 1, -1: mean 0.5, standard deviation 1,
    # standard error 1 / sqrt(4) = 0.5, so it is just within. Temperature loses by 1 each: no noise.
    beta = np.array([3.0, 0.5, 2.0, 7.0])
    platt = beta + np.array([1.0, 1.0, 1.0, -1.0])
    assert simplest_near_best({"temperature": beta + 1, "platt": platt, "beta": beta}) == "platt"
    worse = beta + np.array([1.0, 1.0, 1.0, -0.9])
    assert simplest_near_best({"temperature": beta + 1, "platt": worse, "beta": beta}) == "beta"


def test_what_is_hard_for_every_kind_alike_does_not_widen_the_standard_error():
    generator = np.random.default_rng(0)
    best = generator.exponential(5.0, 100)
    other = best + 0.01 + generator.normal(0, 0.001, 100)
    assert simplest_near_best({"identity": other, "platt": best}) == "platt"


def test_a_tie_goes_to_the_simplest():
    assert simplest_near_best({"identity": np.ones(5), "beta": np.ones(5)}) == "identity"


def test_a_constant_shift_on_new_patients_is_mended():
    shifted = fit_calibration(*simulated(5_000, 6, lambda z: sigmoid(z - 1.5)))
    logits, labels = simulated(5_000, 7, lambda z: sigmoid(z - 1.5))
    assert shifted.apply(logits).mean() == pytest.approx(labels.mean(), abs=0.015)
    assert mean_log_loss(shifted.apply(logits), labels) < mean_log_loss(sigmoid(logits), labels)


def test_below_fifty_positives_only_platts_line_is_tried():
    logits = np.linspace(-3, 1, 400)
    labels = (np.arange(400) % 9 == 0).astype(float)
    fitted = fit_calibration(logits, labels)
    assert fitted.events == 45
    assert fitted.kind == "platt"
    assert not fitted.log_loss
    assert "only 45 positives and 355 negatives" in fitted.reason
    more = fit_calibration(np.append(logits, np.zeros(5)), np.append(labels, np.ones(5)))
    assert more.events == 50
    assert set(more.log_loss) == set(KINDS)


@pytest.mark.parametrize(
    ("labels", "words"),
    [(np.zeros(30), "no positives"), (np.ones(30), "no negatives"), (np.zeros(0), "no labelled")],
)
def test_one_class_leaves_scores_uncalibrated_and_says_so(labels, words):
    logits = np.linspace(-2, 2, len(labels))
    fitted = fit_calibration(logits, labels)
    assert fitted.kind == "identity"
    assert words in fitted.reason
    np.testing.assert_allclose(fitted.apply(logits), sigmoid(logits), rtol=1e-14)


def test_separated_classes_give_finite_parameters():
    logits = np.concatenate([np.linspace(-3, -1, 100), np.linspace(1, 3, 100)])
    fitted = fit_calibration(logits, np.repeat([0.0, 1.0], 100))
    risks = fitted.apply(logits)
    assert 0.5 < risks[100] < risks[199] < 1


@given(
    st.lists(st.tuples(st.floats(-20, 20), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 20),
)
def test_a_fit_is_strictly_increasing_and_finite_whatever_the_labels(rows, copies):
    logits = np.array([row[0] for row in rows] * copies)
    labels = np.array([row[1] for row in rows] * copies, dtype=float)
    fitted = fit_calibration(logits, labels)
    risks = fitted.apply(np.linspace(-4, 4, 9))
    assert np.isfinite(risks).all()
    assert min(fitted.slope_low, fitted.slope_high) >= SMALLEST_SLOPE
    inside = (risks > 1e-12) & (risks < 1 - 1e-12)
    assert (np.diff(risks[inside]) > 0).all()


def test_scores_that_rank_backwards_keep_their_order_and_the_reason_says_so():
    logits, labels = simulated(2_000, 8, lambda z: sigmoid(-z))
    fitted = fit_calibration(logits, labels)
    assert fitted.slope_low == fitted.slope_high == SMALLEST_SLOPE
    assert "hardly rank" in fitted.reason
    assert fitted.apply(logits).mean() == pytest.approx(labels.mean(), abs=0.01)


def test_a_curve_that_is_flat_at_one_end_says_at_which():
    logits, labels = simulated(20_000, 8, lambda z: sigmoid(np.minimum(z, 0.0)))
    fitted = fit_calibration(logits, labels)
    assert (fitted.kind, fitted.slope_high) == ("beta", SMALLEST_SLOPE)
    assert fitted.reason == "slope held at its smallest value: the highest scores hardly differ"


def test_the_order_of_the_rows_changes_nothing():
    logits, labels = simulated(700, 9, sigmoid)
    logits = logits.round(1)  # ties too
    order = np.random.default_rng(0).permutation(700)
    assert fit_calibration(logits[order], labels[order]) == fit_calibration(logits, labels)


# People with several rows


def rolling(n_people, n_rows, seed):
    """Logits that hardly vary within a person, whose label is the same in every row."""
    generator = np.random.default_rng(seed)
    own = generator.normal(-1.5, 1.2, n_people)
    labels = (generator.random(n_people) < sigmoid(own)).astype(float)
    subjects = np.repeat(np.arange(n_people), n_rows)
    return own[subjects] + generator.normal(0, 0.3, len(subjects)), labels[subjects], subjects


def test_a_row_seen_many_times_is_one_row():
    logits, labels = simulated(500, 5, lambda z: sigmoid(1 + 0.3 * z))
    once = fit_calibration(logits, labels)
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(500), 24))
    many = fit_calibration(logits[rows], labels[rows], rows)
    assert (many.kind, many.n, many.events) == (once.kind, 500, once.events)
    assert many.log_loss == pytest.approx(once.log_loss, rel=1e-9)
    for name in ("intercept", "slope_low", "slope_high"):
        assert getattr(many, name) == pytest.approx(getattr(once, name), rel=1e-6)


def test_a_row_of_each_changes_nothing_whatever_people_are_called():
    logits, labels = simulated(700, 9, sigmoid)
    names = np.random.default_rng(0).permutation(700) + 10**12
    assert fit_calibration(logits, labels, names) == fit_calibration(logits, labels)
    some = np.stack([logits, -logits, 0 * logits], axis=1)
    classes = labels.astype(np.int64)
    assert fit_temperature(some, classes, names) == fit_temperature(some, classes)


def test_rolling_predictions_of_few_people_choose_no_bent_curve():
    fits = [fit_calibration(*rolling(60, 24, seed)) for seed in range(20)]
    assert {fit.kind for fit in fits} == {"platt"}
    assert all("positives" in fit.reason for fit in fits)
    # Their slopes are held near 1 as those of one row a person are.
    single = [fit_calibration(*rolling(60, 1, seed)) for seed in range(20)]
    spread, once = (np.std([fit.slope_low for fit in each]) for each in (fits, single))
    assert spread < 1.5 * once


def test_people_are_counted_and_not_their_rows():
    logits, labels, subjects = rolling(60, 24, 0)
    labels[:24] = np.arange(24) == 23  # one comes to the event in the last row
    fitted = fit_calibration(logits, labels, subjects)
    positives = len(np.unique(subjects[labels == 1]))
    negatives = len(np.unique(subjects[labels == 0]))
    assert (fitted.n, fitted.events) == (60, positives)
    assert positives + negatives == 61
    assert f"only {positives} positives and {negatives} negatives" in fitted.reason


def test_rows_of_one_person_are_never_fitted_on_to_judge_another_of_them(monkeypatch):
    logits, labels, subjects = rolling(400, 3, 1)
    seen, fit = [], fitting._fit

    def watched(kind, rows, slope_sd):
        seen.append(rows)
        return fit(kind, rows, slope_sd)

    monkeypatch.setattr(fitting, "_fit", watched)
    fit_calibration(logits, labels, subjects)
    for rows in seen[: len(KINDS) * fitting.FOLDS]:
        people, n_rows = np.unique(rows.whose, return_counts=True)
        assert len(people) in (319, 320, 321)
        assert set(n_rows) == {3}


def test_the_standard_error_is_that_of_people():
    # 200 people of whom rows repeat what is known: nothing is known more surely than from one row.
    once = fit_calibration(*rolling(800, 1, 3))
    logits, labels, subjects = rolling(800, 1, 3)
    many = fit_calibration(*(np.repeat(each, 50) for each in (logits, labels, subjects)))
    assert many.kind == once.kind
    naive = fit_calibration(np.repeat(logits, 50), np.repeat(labels, 50))
    assert naive.kind != once.kind


def test_rolling_classes_are_held_near_one_by_the_number_of_people():
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(30), 40)
    classes = generator.integers(0, 3, 30)[subjects]
    logits = generator.normal(size=(1200, 3))
    fitted = fit_temperature(logits, classes, subjects)
    assert fitted.n == 30
    assert fitted.reason == "only 30 people: held near 1"
    longer = np.concatenate([np.arange(1200), np.repeat(np.flatnonzero(subjects == 0), 20)])
    again = fit_temperature(logits[longer], classes[longer], subjects[longer])
    assert again.slope_low == pytest.approx(fitted.slope_low, rel=1e-9)


def test_apply_is_the_beta_calibration_of_its_paper():
    # Kull, Silva Filho and Flach (2017): 1 / (1 + 1 / (exp(c) * s^a / (1 - s)^b)).
    scores = np.array([0.01, 0.2, 0.5, 0.9])
    expected = 1 / (1 + 1 / (np.exp(0.3) * scores**1.7 / (1 - scores) ** 0.4))
    beta = Calibration("beta", intercept=0.3, slope_low=1.7, slope_high=0.4)
    np.testing.assert_allclose(beta.apply(np.log(scores / (1 - scores))), expected, rtol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.5)])
def test_extreme_logits_give_risks_of_zero_and_one(low, high):
    calibration = Calibration("beta", 0.1, low, high)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        risks = calibration.apply(np.array([-np.inf, -1e6, 1e6, np.inf, np.nan]))
    np.testing.assert_array_equal(risks, [0, 0, 1, 1, np.nan])


def test_json_brings_back_the_same_calibration():
    for fitted in (
        fit_calibration(*simulated(500, 5, sigmoid)),
        fit_calibration(np.zeros(3), np.zeros(3)),
    ):
        assert Calibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "isotonic"}, "'isotonic' is not one of"),
        ({"slope_low": -1.0}, "slopes above 0"),
        ({"intercept": float("nan")}, "finite"),
        ({"intercept": "high"}, "expected type"),
        ({"log_loss": 3}, "expected type"),
        ({"bins": []}, "expected the keys"),
    ],
)
def test_a_damaged_calibration_is_refused(change, words):
    with pytest.raises(BundleError, match=words):
        Calibration.from_json(Calibration().to_json() | change)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        ([0.0, np.nan], [0, 1], "1 logits are not finite"),
        ([0.0, np.inf], [0, 1], "1 logits are not finite"),
        ([0.0, 1.0], [0, 2], "1 labels are neither 0 nor 1"),
        ([0.0, 1.0], [0], r"shape \(2,\), labels of shape \(1,\)"),
    ],
)
def test_bad_input_is_refused_with_its_count(logits, labels, words):
    with pytest.raises(SchemaError, match=words):
        fit_calibration(np.array(logits), np.array(labels))


def test_logistic_regression_gives_the_log_odds_of_each_group():
    # Group 0 has 3 events in 12, group 1 has 6 in 8, with weight 2 on each row.
    group = np.repeat([0.0, 1.0], [12, 8])
    targets = np.concatenate([np.repeat([1.0, 0.0], [3, 9]), np.repeat([1.0, 0.0], [6, 2])])
    design = np.stack([np.ones(20), group], axis=1)
    coefficients = fit_logistic(design, targets, weights=np.full(20, 2.0))
    np.testing.assert_allclose(coefficients, [-math.log(3), 2 * math.log(3)], rtol=1e-12)


def test_logistic_regression_of_separated_classes_has_no_value():
    design = np.stack([np.ones(4), np.array([-2.0, -1.0, 1.0, 2.0])], axis=1)
    assert np.isnan(fit_logistic(design, np.array([0.0, 0, 1, 1]))).all()
