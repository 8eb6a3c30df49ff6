from clinical.errors import ConfigError
from clinical.evaluation import choose_thresholds, evaluate
from clinical.evaluation.judged import YesOrNo
from clinical.evaluation.metrics import Scored
from clinical.evaluation.thresholds import METRICS, rates

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

RULES = {"sensitivity": [0.8], "specificity": [0.9], "ppv": [0.5], "alert_rate": [0.1]}


def predictions(n=400, *, seed=0, task="death"):
    generator = np.random.default_rng(seed)
    scores = generator.beta(1, 4, n)
    return pd.DataFrame(
        {
            "subject_id": np.arange(n) // 2,
            "prediction_time": pd.Timestamp("2150-01-01") + pd.to_timedelta(np.arange(n), unit="h"),
            "task": task,
            "score": scores,
            "label": (generator.random(n) < scores).astype(float),
        }
    )


def by_hand(scores, labels):
    """A table of one task from two lists."""
    table = predictions(len(scores))
    return table.assign(score=scores, label=np.asarray(labels, dtype=float))


def wide(evaluation, at):
    rows = evaluation.at_thresholds
    return rows[rows["at"] == at].set_index("metric")["value"]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_rates_are_those_of_the_rows_above_each_threshold(seed, n):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 5, n) / 4
    labels = (generator.random(n) < 0.5).astype(float)
    weights = generator.integers(0, 3, (2, n)).astype(float)
    known = np.ones(n, dtype=bool)
    seen = YesOrNo(known, Scored.of(scores, labels), known.astype(float))
    thresholds = np.array([0.5, -1.0, 0.3, 2.0])
    found = rates(seen, thresholds, weights)
    for row, drawn in enumerate(weights):
        s, y = (np.repeat(each, drawn.astype(int)) for each in (scores, labels))
        for place, threshold in enumerate(thresholds):
            alert = s >= threshold
            expected = {
                "sensitivity": alert[y == 1].mean() if (y == 1).any() else np.nan,
                "specificity": (~alert[y == 0]).mean() if (y == 0).any() else np.nan,
                "PPV": y[alert].mean() if alert.any() else np.nan,
                "NPV": (1 - y[~alert]).mean() if (~alert).any() else np.nan,
                "alert rate": alert.mean() if len(s) else np.nan,
                "alerts per true alert": alert.sum() / y[alert].sum() if y[alert].any() else np.nan,
            }
            for metric, value in expected.items():
                np.testing.assert_allclose(found[metric][row, place], value, atol=1e-12)


def test_rates_agree_with_the_confusion_matrix_of_scikit_learn():
    table = predictions(500)
    evaluation = evaluate(table, thresholds=[0.2], resamples=50)
    found = wide(evaluation, "0.2")
    tn, fp, fn, tp = confusion_matrix(table["label"], table["score"] >= 0.2).ravel()
    expected = [tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)]
    np.testing.assert_allclose(found[list(METRICS[:4])], expected, atol=1e-9)
    assert found["alert rate"] == pytest.approx((tp + fp) / 500, abs=1e-9)
    assert found["alerts per true alert"] == pytest.approx((tp + fp) / tp, abs=1e-9)
    rows = evaluation.at_thresholds
    assert (rows["low"] < rows["value"]).all()
    assert (rows["value"] < rows["high"]).all()


def test_thresholds_reach_their_goals_where_they_are_chosen():
    table = predictions(500)
    chosen = choose_thresholds(table, rules=RULES)
    at = evaluate(table, thresholds=chosen, resamples=5)
    assert wide(at, "sensitivity 0.8")["sensitivity"] >= 0.8
    assert wide(at, "specificity 0.9")["specificity"] >= 0.9
    assert wide(at, "ppv 0.5")["PPV"] >= 0.5
    assert wide(at, "alert_rate 0.1")["alert rate"] <= 0.1


def test_no_other_threshold_reaches_a_goal_better():
    table = predictions(300, seed=2)
    chosen = choose_thresholds(table, rules=RULES)["death"]
    scores, labels = table["score"].to_numpy(), table["label"].to_numpy()
    every = np.sort(scores)
    sensitivity = np.array([(scores >= t)[labels == 1].mean() for t in every])
    specificity = np.array([(scores < t)[labels == 0].mean() for t in every])
    ppv = np.array([labels[scores >= t].mean() for t in every])
    highest = every[sensitivity >= 0.8].max()
    lowest = [every[specificity >= 0.9].min(), every[ppv >= 0.5].min()]
    below = [scores[scores < t].max() for t in (highest, *lowest)]
    assert chosen["sensitivity 0.8"] == pytest.approx((highest + below[0]) / 2)
    assert chosen["specificity 0.9"] == pytest.approx((lowest[0] + below[1]) / 2)
    assert chosen["ppv 0.5"] == pytest.approx((lowest[1] + below[2]) / 2)
    assert (scores >= chosen["alert_rate 0.1"]).sum() == 30


def test_thresholds_lie_between_scores_by_hand():
    table = by_hand([0.9, 0.8, 0.6, 0.4, 0.1], [1, 0, 1, 0, 0])
    rules = {"sensitivity": [0.5, 0.9], "specificity": [0.6], "alert_rate": [0.5], "risk": [0.3]}
    chosen = choose_thresholds(table, rules=rules)["death"]
    assert chosen == pytest.approx(
        {
            "sensitivity 0.5": 0.85,
            "sensitivity 0.9": 0.5,
            "specificity 0.6": 0.5,
            "alert_rate 0.5": 0.7,
            "risk 0.3": 0.3,
        }
    )


def test_a_goal_that_nothing_reaches_has_no_threshold_and_says_so():
    table = by_hand([0.9, 0.5, 0.1], [0, 0, 1])
    chosen = choose_thresholds(table, rules={"ppv": [0.9]})
    assert chosen == {"death": {"ppv 0.9": None}}
    rows = evaluate(table, thresholds=chosen, resamples=3).at_thresholds
    assert rows["value"].isna().all()
    assert set(rows["note"]) == {"no score reaches the goal"}


def test_thresholds_are_not_chosen_again_where_they_are_judged():
    chosen = choose_thresholds(predictions(400, seed=1), rules={"sensitivity": [0.8]})
    other = predictions(400, seed=7)
    rows = evaluate(other, thresholds=chosen, resamples=5).at_thresholds
    assert set(rows["threshold"]) == {chosen["death"]["sensitivity 0.8"]}


def test_a_time_to_event_task_is_judged_by_what_is_known_at_the_horizon():
    generator = np.random.default_rng(0)
    n = 20_000
    risk = generator.uniform(0.05, 0.9, n)
    event = 24 * np.log1p(-generator.random(n)) / np.log1p(-risk)
    end = generator.exponential(30, n)
    table = predictions(n).assign(score=risk, horizon_hours=24.0)
    whole, censored = (
        evaluate(table.assign(label=hours, label_observed=observed), thresholds=[0.5], resamples=3)
        for hours, observed in ((event, True), (np.minimum(event, end), event <= end))
    )
    np.testing.assert_allclose(wide(whole, "0.5"), wide(censored, "0.5"), rtol=0.03)


def test_thresholds_may_be_given_for_each_task():
    table = pd.concat([predictions(task="a"), predictions(task="b", seed=3)])
    rows = evaluate(table, thresholds={"b": {"ours": 0.2}}, resamples=3).at_thresholds
    assert set(rows["task"]) == {"b"}
    rows = evaluate(table, thresholds={"ours": 0.2}, resamples=3).at_thresholds
    assert set(rows["task"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ({"other": {"x": 0.2}}, "they are for other, and judged with a yes or no are death"),
        ({"death": {"x": "high"}}, "give numbers"),
        ({"death": {"x": 0.2}, "y": 0.3}, "a mapping for each task"),
        (["high"], "give numbers"),
        ([], "give numbers"),
        ([True], "give numbers"),
    ],
)
def test_thresholds_that_cannot_be_meant_are_refused(thresholds, words):
    with pytest.raises(ConfigError, match=words):
        evaluate(predictions(), thresholds=thresholds, resamples=3)


@pytest.mark.parametrize(
    ("rules", "words"),
    [({"recall": [0.5]}, "no rule recall; known are"), ({"ppv": [1.0]}, "ppv 1 should be between")],
)
def test_rules_that_cannot_be_meant_are_refused(rules, words):
    with pytest.raises(ConfigError, match=words):
        choose_thresholds(predictions(), rules=rules)


def test_the_screen_has_a_row_a_threshold_and_json_has_no_nan():
    evaluation = evaluate(predictions(), thresholds=[0.2, 0.99], resamples=20)
    shown = evaluation.display_thresholds()
    assert list(shown["at"]) == ["0.2", "0.99"]
    assert shown["PPV"].iloc[1] == "–"
    assert "alerts per true alert" in evaluation._repr_html_()
    text = json.dumps(evaluation.to_json())
    assert "NaN" not in text
    assert len(json.loads(text)["at_thresholds"]) == 12
    with pytest.raises(ConfigError, match="evaluate was given none"):
        evaluate(predictions(), resamples=3).display_thresholds()
