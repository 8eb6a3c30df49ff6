from clinical.errors import ConfigError
from clinical.evaluation import evaluate

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def predictions(n=500, *, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.beta(1, 4, n)
    return pd.DataFrame(
        {
            "subject_id": np.arange(n),
            "prediction_time": pd.Timestamp("2150-01-01"),
            "task": "death",
            "score": scores,
            "label": (np.random.default_rng(9).random(n) < scores).astype(float),
        }
    )


def test_net_benefit_has_the_value_worked_out_by_hand():
    # From 0.25 on: 3 alerts, 2 of them true; one false alert costs a third: (2 - 1/3) / 5.
    table = predictions(5).assign(score=[0.9, 0.5, 0.3, 0.2, 0.1], label=[1.0, 0, 1, 0, 0])
    curve = evaluate(table, resamples=5).net_benefit(risks=[0.25])
    assert curve["model"][0] == pytest.approx(5 / 15)
    assert curve["act_on_all"][0] == pytest.approx((2 - 3 / 3) / 5)


def test_net_benefit_is_true_alerts_less_false_ones_at_the_odds():
    table = predictions()
    curve = evaluate(table, resamples=5).net_benefit()
    scores, labels = table["score"].to_numpy(), table["label"].to_numpy()
    for risk, found in zip(curve["risk"], curve["model"], strict=True):
        alert = scores >= risk
        expected = (labels[alert].sum() - (1 - labels[alert]).sum() * risk / (1 - risk)) / 500
        assert found == pytest.approx(expected, abs=1e-9)
    prevalence = labels.mean()
    np.testing.assert_allclose(
        curve["act_on_all"],
        prevalence - (1 - prevalence) * curve["risk"] / (1 - curve["risk"]),
        atol=1e-9,
    )


def test_intervals_are_paired_with_the_baseline_s():
    table = predictions()
    other = table.assign(score=table["score"] * 0.999)
    curve = evaluate(table, baseline=other, resamples=100).net_benefit(risks=[0.2])
    row = curve.iloc[0]
    assert row["model_high"] - row["model_low"] > 0.03
    assert row["difference"] == row["model"] - row["baseline"]
    assert row["difference_high"] - row["difference_low"] < 0.01


def test_a_horizon_counts_the_event_by_then():
    table = predictions(300).assign(horizon_hours=24.0, label_observed=True)
    hours = np.where(table["label"] == 1, 10.0, 100.0)
    curve = evaluate(table.assign(label=hours), resamples=5).net_benefit(risks=[0.1, 0.3])
    expected = evaluate(predictions(300), resamples=5).net_benefit(risks=[0.1, 0.3])
    pd.testing.assert_frame_equal(curve, expected)


def test_what_has_no_yes_or_no_has_no_decision_curve():
    table = predictions().assign(kind="regression")
    with pytest.raises(ConfigError, match="death has no yes or no"):
        evaluate(table, resamples=3).net_benefit()
    with pytest.raises(ConfigError, match="1 should be between 0 and 1"):
        evaluate(predictions(), resamples=3).net_benefit(risks=[1.0])


def test_the_picture_has_both_curves_and_both_simple_rules():
    evaluation = evaluate(predictions(), baseline=predictions(seed=1), resamples=30)
    ax = evaluation.plot_net_benefit(Figure().subplots())
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["act on nobody", "act on everybody", "model", "baseline"]
    line = next(line for line in ax.get_lines() if line.get_label() == "model")
    np.testing.assert_allclose(line.get_ydata(), evaluation.net_benefit()["model"])
    assert len(ax.collections) == 2
    assert evaluation.plot_net_benefit().get_title().startswith("death")
