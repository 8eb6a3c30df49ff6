"""Predictions that say what they lack: the whole is judged, and each part by what it costs."""

from clinical.errors import ConfigError, SchemaError
from clinical.evaluation import evaluate

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

METRICS = ["AUROC", "AUPRC (average precision)", "scaled Brier", "log loss"]


def leave_out(n=300, *, task="death"):
    """As `Predictor.leave_out` writes it: notes carry the signal, images carry nothing."""
    generator = np.random.default_rng(0)
    scores = generator.beta(1, 4, n)
    whole = pd.DataFrame(
        {
            "left_out": pd.Series([None] * n, dtype="string"),
            "subject_id": np.arange(n) // 2,
            "prediction_time": pd.Timestamp("2150-01-01") + pd.to_timedelta(np.arange(n), unit="h"),
            "task": task,
            "class": pd.Series([None] * n, dtype="string"),
            "score": scores,
            "label": (generator.random(n) < scores).astype(float),
        }
    )
    without_notes = whole.assign(left_out="notes", score=generator.permutation(scores))
    noise = generator.normal(0, 1e-3, n)
    without_images = whole.assign(left_out="images", score=(scores + noise).clip(0, 1))
    return pd.concat([whole, without_notes, without_images], ignore_index=True)


def whole_of(table):
    return table[table["left_out"].isna()]


def test_the_whole_is_judged_as_if_it_stood_alone():
    table = leave_out()
    evaluation = evaluate(table, resamples=50)
    alone = evaluate(whole_of(table).drop(columns="left_out"), resamples=50)
    pd.testing.assert_frame_equal(evaluation.table, alone.table)
    assert alone.costs is None


def test_the_costs_are_the_paired_differences_from_the_whole():
    table = leave_out()
    costs = evaluate(table, resamples=50, seed=3).costs
    for part in ("notes", "images"):
        less = table[table["left_out"] == part].drop(columns="left_out")
        beside = evaluate(whole_of(table), baseline=less, resamples=50, seed=3).table
        expected = beside[beside["metric"].isin(METRICS)].set_index("metric").loc[METRICS]
        found = costs[costs["left_out"] == part].set_index("metric")
        assert list(found.index) == METRICS
        pairs = {"whole": "value", "without": "baseline"}
        for column in ("whole", "without", "difference", "difference_low", "difference_high"):
            np.testing.assert_array_equal(found[column], expected[pairs.get(column, column)])
    auroc = costs[costs["metric"] == "AUROC"].set_index("left_out")
    assert auroc.loc["notes", "difference_low"] > 0.1
    assert abs(auroc.loc["images", "difference"]) < 0.01


def test_labels_of_their_own_are_used_for_the_parts_too():
    table = leave_out()
    labels = whole_of(table)[["subject_id", "prediction_time"]].assign(
        boolean_value=whole_of(table)["label"] == 1
    )
    found = evaluate(table.drop(columns="label"), labels, resamples=20)
    pd.testing.assert_frame_equal(found.costs, evaluate(table, resamples=20).costs)


def test_every_task_and_class_has_its_own_costs():
    both = pd.concat([leave_out(task="b"), leave_out(task="a")])
    costs = evaluate(both, resamples=10).costs
    assert list(dict.fromkeys(zip(costs["task"], costs["left_out"], strict=True))) == [
        ("b", "notes"),
        ("b", "images"),
        ("a", "notes"),
        ("a", "images"),
    ]
    assert "class" not in costs
    classes = leave_out().assign(**{"class": "x"})
    assert set(evaluate(classes, resamples=10).costs["class"]) == {"x"}


def test_one_part_alone_is_judged_like_any_other_scores():
    less = leave_out().query("left_out == 'notes'")
    evaluation = evaluate(less, resamples=20)
    assert evaluation.costs is None
    assert evaluation.headlines == ["death: 300 rows of 150 subjects, 61 events"]


def test_parts_without_the_whole_are_refused():
    with pytest.raises(SchemaError, match=r"left_out names 2 parts \(notes, images\), and in no"):
        evaluate(leave_out().dropna(subset=["left_out"]), resamples=20)


def test_an_error_in_the_rows_of_a_part_names_the_part():
    table = leave_out()
    bad = pd.concat([table, table[table["left_out"] == "images"].head(2)])
    with pytest.raises(SchemaError, match="rows without images: 2 rows repeat"):
        evaluate(bad, resamples=20)


def test_a_baseline_that_has_parts_is_used_whole():
    table = leave_out()
    found = evaluate(table, baseline=table, resamples=20).table
    assert (found["difference"].dropna() == 0).all()


def test_costs_are_shown_and_written_as_json():
    evaluation = evaluate(leave_out(), resamples=20)
    text = evaluation.display_costs()
    assert text["difference (95 % interval)"].iloc[0].startswith("+0.")
    assert "Without each part" in evaluation._repr_html_()
    (first, *_) = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))["costs"]
    assert (first["left_out"], first["metric"]) == ("notes", "AUROC")
    with pytest.raises(ConfigError, match=r"costs: .* Predictor\.leave_out makes some"):
        evaluate(whole_of(leave_out()), resamples=20).display_costs()


def test_a_part_without_which_nothing_is_told_apart_says_so():
    table = leave_out()
    flat = table.assign(score=table["score"].where(table["left_out"] != "notes", 0.2))
    costs = evaluate(flat.assign(label=1.0), resamples=20).costs
    assert costs["note"].str.contains("no negatives").all()
    found = evaluate(flat, resamples=20).costs.set_index(["left_out", "metric"])
    assert found.loc[("notes", "AUROC"), "without"] == 0.5


def test_the_picture_has_a_line_a_part_with_its_cost():
    evaluation = evaluate(leave_out(), resamples=50)
    ax = evaluation.plot_costs(Figure().subplots())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["without notes", "without images"]
    costs = evaluation.costs
    expected = costs[costs["metric"] == "AUROC"]["difference"]
    drawn = ax.containers[0].lines[0]
    np.testing.assert_allclose(drawn.get_xdata(orig=False), expected)
    with pytest.raises(ConfigError, match="there is no 'Brier'; choose one of AUROC"):
        evaluation.plot_costs(Figure().subplots(), metric="Brier")
    with pytest.raises(ConfigError, match="no column left_out"):
        evaluate(whole_of(leave_out()).drop(columns="left_out"), resamples=5).plot_costs()
