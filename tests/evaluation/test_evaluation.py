from clinical.errors import ConfigError, SchemaError
from clinical.evaluation import evaluate

import json
import math

import numpy as np
import pandas as pd
import pytest

START = pd.Timestamp("2150-03-01 06:00")


def predictions(n=200, *, seed=0, task="death", rows_each=1):
    """A predictions table as the toolkit writes it, with labels that follow the scores."""
    generator = np.random.default_rng(seed)
    scores = generator.beta(1, 4, n)
    return pd.DataFrame(
        {
            "subject_id": (np.arange(n) // rows_each + 990_000).astype("int64"),
            "prediction_time": (START + pd.to_timedelta(np.arange(n), unit="h")).astype(
                "datetime64[us]"
            ),
            "task": task,
            "class": pd.Series([None] * n, dtype="object"),
            "horizon_hours": np.nan,
            "score": scores,
            "label": (generator.random(n) < scores).astype(float),
        }
    )


def row(evaluation, metric="AUROC"):
    return evaluation.table.set_index("metric").loc[metric]


def meds_labels(table):
    return pd.DataFrame(
        {
            "subject_id": table["subject_id"],
            "prediction_time": table["prediction_time"],
            "boolean_value": table["label"].astype(bool),
            "integer_value": pd.Series([None] * len(table), dtype="Int64"),
        }
    )


def test_the_table_has_one_row_a_metric_and_intervals_around_the_values():
    table = evaluate(predictions(), resamples=200).table
    assert list(table) == ["task", "metric", "value", "low", "high", "n", "events", "note"]
    assert table["metric"].is_unique
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()
    assert (table["n"] == 200).all()
    assert table["events"].nunique() == 1


def test_the_order_of_the_rows_and_an_unused_column_change_nothing():
    table = predictions(rows_each=2)
    once = evaluate(table, resamples=50, seed=3).table
    again = evaluate(table.sample(frac=1, random_state=1).assign(x=1), resamples=50, seed=3).table
    pd.testing.assert_frame_equal(once, again, rtol=1e-10)


def test_another_seed_moves_the_interval_and_not_the_value():
    first, second = (row(evaluate(predictions(), resamples=50, seed=seed)) for seed in (1, 2))
    assert first["value"] == second["value"]
    assert first["low"] != second["low"]


def test_the_tables_given_are_not_changed():
    table, other = predictions(), predictions(seed=1)
    labels = meds_labels(table)
    before = [frame.copy(deep=True) for frame in (table, other, labels)]
    evaluate(table, labels, baseline=other, resamples=10)
    for frame, copy in zip((table, other, labels), before, strict=True):
        pd.testing.assert_frame_equal(frame, copy)


@pytest.mark.parametrize(("label", "words"), [(0.0, "no positives"), (1.0, "no negatives")])
def test_one_class_is_said_and_is_no_crash(label, words):
    evaluation = evaluate(predictions(30).assign(label=label), resamples=20)
    for metric in ("AUROC", "AUPRC (average precision)", "min(Se, +P)", "calibration slope"):
        assert math.isnan(row(evaluation, metric)["value"])
        assert row(evaluation, metric)["note"] == f"not defined ({words})"
    assert row(evaluation, "Brier")["value"] > 0
    assert row(evaluation, "Brier")["note"] == words
    content = evaluation.to_json()
    assert content["tasks"][0]["metrics"]["AUROC"]["value"] is None
    json.dumps(content, allow_nan=False)
    for text in (evaluation._repr_html_(), repr(evaluation)):
        assert f"not defined ({words})" in text
        assert "nan" not in text.lower()


def test_few_events_are_said():
    table = predictions(40)
    table["label"] = 0.0
    table.loc[[3, 17], "label"] = 1.0
    evaluation = evaluate(table, resamples=200)
    assert "only 2 events: wide, rough interval" in row(evaluation)["note"]
    assert "resamples have no value" in row(evaluation)["note"]
    assert "chance: 0.050" in row(evaluation, "AUPRC (average precision)")["note"]
    table["label"] = 1 - table["label"]
    assert "only 2 non-events" in row(evaluate(table, resamples=20))["note"]


def test_one_subject_has_values_and_no_interval():
    table = predictions(50, rows_each=50)
    result = row(evaluate(table, resamples=20))
    assert not math.isnan(result["value"])
    assert math.isnan(result["low"])
    assert "interval not defined (one subject)" in result["note"]


def test_two_subjects_of_which_one_has_all_events_leave_the_interval_undefined():
    table = predictions(4).assign(score=[0.9, 0.4, 0.2, 0.1], label=[1.0, 1.0, 0.0, 0.0])
    table["subject_id"] = [1, 1, 2, 2]
    result = row(evaluate(table, resamples=1001, seed=5))
    assert result["value"] == 1.0
    # A resample has both classes with probability 1/2: the seed has fewer, or the interval is 1.
    if math.isnan(result["low"]):
        assert "interval not defined (no value in" in result["note"]
    else:
        assert "every resample gives the same value" in result["note"]


def test_a_slope_without_a_finite_value_says_why():
    table = predictions(40)
    apart = evaluate(table.assign(label=(table["score"] > 0.2).astype(float)), resamples=20)
    note = "not defined (a threshold on the score separates the classes)"
    assert row(apart, "calibration slope")["note"].startswith(note)
    assert row(apart)["value"] == 1.0
    assert "every resample gives the same value" in row(apart)["note"]
    equal = evaluate(table.assign(score=0.1), resamples=20)
    assert row(equal, "calibration slope")["note"] == "not defined (all scores are equal)"


def test_rows_without_a_score_or_a_label_are_left_out_and_counted():
    table = predictions(200)
    whole = evaluate(table.drop(index=range(7)), resamples=20)
    table.loc[0:2, "score"] = np.nan
    table.loc[2:6, "label"] = np.nan
    evaluation = evaluate(table, resamples=20)
    pd.testing.assert_frame_equal(evaluation.table, whole.table)
    counts = evaluation.counts.iloc[0]
    assert (counts["n"], counts["without_score"], counts["without_label"]) == (193, 3, 4)
    assert "left out: 3 without a score, 4 without a label" in evaluation._repr_html_()


def test_a_task_without_any_label_stands_beside_one_with_labels():
    empty = predictions(30, task="readmission").assign(label=np.nan)
    evaluation = evaluate(pd.concat([predictions(), empty]), resamples=20)
    lost = evaluation.table[evaluation.table["task"] == "readmission"]
    assert (lost["note"] == "not defined (no labelled scores)").all()
    assert (evaluation.table.loc[evaluation.table["task"] == "death", "n"] == 200).all()


def test_labels_from_a_meds_frame_take_the_place_of_the_column():
    table = predictions()
    expected = evaluate(table, resamples=20).table
    labels = meds_labels(table).sample(frac=1, random_state=0)
    turned = table.assign(label=1 - table["label"])
    pd.testing.assert_frame_equal(evaluate(turned, labels, resamples=20).table, expected)
    fewer = evaluate(table.drop(columns="label"), labels.iloc[5:], resamples=20)
    assert fewer.counts["without_label"].item() == 5


def test_labels_of_several_tasks_are_told_apart_by_their_column():
    table = pd.concat([predictions(), predictions(task="readmission", seed=1)], ignore_index=True)
    labels = meds_labels(table).assign(task=table["task"])
    expected = evaluate(table, resamples=20).table
    pd.testing.assert_frame_equal(evaluate(table, labels, resamples=20).table, expected)
    with pytest.raises(SchemaError, match="2 tasks; add a column 'task'"):
        evaluate(table, labels.drop(columns="task"), resamples=20)


def test_a_label_for_an_unknown_sample_is_refused_with_a_count_and_no_identifier():
    table = predictions()
    labels = meds_labels(table)
    labels.loc[:2, "prediction_time"] += pd.Timedelta(minutes=1)
    with pytest.raises(SchemaError, match="3 of 200 labels are for a sample") as caught:
        evaluate(table, labels)
    assert "990" not in str(caught.value)


def test_the_baseline_beside_itself_differs_by_nothing():
    table = predictions()
    evaluation = evaluate(table, baseline=table, resamples=50)
    for column in ("difference", "difference_low", "difference_high"):
        assert (evaluation.table[column] == 0).all()
    assert (evaluation.table["baseline"] == evaluation.table["value"]).all()


def test_the_difference_from_the_baseline_is_paired():
    table = predictions(400)
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.02, 400)
    near = table.assign(score=(table["score"] + noise).clip(0, 1)).sample(frac=1, random_state=0)
    result = row(evaluate(table, baseline=near, resamples=300))
    assert result["difference"] == pytest.approx(result["value"] - result["baseline"])
    assert result["difference_low"] <= result["difference"] <= result["difference_high"]
    width = result["difference_high"] - result["difference_low"]
    assert width < (result["high"] - result["low"]) / 2


def test_both_are_judged_on_the_rows_that_both_scored():
    table = predictions()
    other = predictions(seed=1).iloc[10:]
    other.loc[10:14, "score"] = np.nan
    evaluation = evaluate(table, baseline=other, resamples=20)
    alone = evaluate(table.iloc[15:], resamples=20).table
    pd.testing.assert_frame_equal(evaluation.table[list(alone)], alone)
    assert evaluation.counts["without_baseline"].item() == 15


def test_each_class_is_judged_against_the_rest():
    first, second = predictions(seed=0), predictions(seed=1)
    table = pd.concat([first.assign(**{"class": "a"}), second.assign(**{"class": "b"})])
    evaluation = evaluate(table, resamples=20)
    assert list(evaluation.table.columns[:3]) == ["task", "class", "metric"]
    alone = evaluate(second, resamples=20).table
    of_b = evaluation.table[evaluation.table["class"] == "b"].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_b.drop(columns="class"), alone)
    by_class = {part["class"]: part["metrics"] for part in evaluation.to_json()["tasks"]}
    assert by_class["b"]["AUROC"]["value"] == alone["value"].iloc[0]


@pytest.mark.parametrize(
    "types",
    [
        {"prediction_time": "datetime64[ns]"},
        {"subject_id": "Int64", "score": "Float64", "label": "Float64"},
        {"subject_id": "int32", "label": "bool", "task": "category"},
        {"subject_id": "int64[pyarrow]", "prediction_time": "timestamp[us][pyarrow]"},
        {"score": "double[pyarrow]", "label": "double[pyarrow]", "task": "string"},
    ],
)
def test_tables_from_other_tools_give_the_same(types):
    table = predictions()
    expected = evaluate(table, resamples=20).table
    slim = table.drop(columns=["class", "horizon_hours"]).astype(types)
    pd.testing.assert_frame_equal(evaluate(slim, resamples=20).table, expected)
    labels = meds_labels(table)
    pd.testing.assert_frame_equal(evaluate(slim, labels, resamples=20).table, expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="score"), "column score is missing"),
        (lambda t: t.drop(columns="label"), "no column 'label'; give --labels FILE_OR_FOLDER"),
        (lambda t: t.iloc[:0], "the table has no row"),
        (lambda t: t.assign(score=t["score"] * 20), r"\d+ scores are outside 0 to 1"),
        (lambda t: t.assign(score=np.inf), "200 values of score are infinite"),
        (lambda t: t.assign(score="high"), "score is .*not a number"),
        (lambda t: t.assign(label=np.arange(200.0)), "198 labels of task 'death' are neither 0"),
        (lambda t: t.assign(label=np.nan), "none of 200 rows has all of a score, a label"),
        (lambda t: t.assign(horizon_hours=48.0), "200 rows have horizon_hours"),
        (lambda t: pd.concat([t, t.iloc[:3]]), "3 rows repeat subject_id, prediction_time"),
        (lambda t: t.assign(subject_id=t["subject_id"].astype(str)), "not a whole number"),
        (lambda t: t.assign(task=None), "200 rows have no task"),
        (
            lambda t: t.assign(prediction_time=t["prediction_time"].dt.tz_localize("UTC")),
            "not a timestamp without time zone",
        ),
        (
            lambda t: t.assign(prediction_time=t["prediction_time"].astype(str)),
            "not a timestamp without time zone",
        ),
        (
            lambda t: t.assign(prediction_time=t["prediction_time"].where(t.index > 1)),
            "2 rows have no prediction_time",
        ),
    ],
)
def test_a_bad_table_is_refused_with_what_and_how_many(change, words):
    with pytest.raises(SchemaError, match=words):
        evaluate(change(predictions()), resamples=20)


def test_a_baseline_of_other_samples_is_refused():
    table = predictions()
    other = table.assign(prediction_time=table["prediction_time"] + pd.Timedelta(hours=500))
    with pytest.raises(SchemaError, match="a label and a score in the baseline"):
        evaluate(table, baseline=other)


def test_bad_labels_are_refused():
    table = predictions()
    labels = meds_labels(table)
    with pytest.raises(SchemaError, match="labels: 1 rows repeat"):
        evaluate(table, pd.concat([labels, labels.iloc[:1]]))
    with pytest.raises(SchemaError, match="labels: column boolean_value is missing"):
        evaluate(table, labels.drop(columns="boolean_value"))
    with pytest.raises(SchemaError, match="can't tell classes apart"):
        evaluate(table.assign(**{"class": "a"}), labels)


def test_no_resamples_are_refused():
    with pytest.raises(ConfigError, match="resamples: 0 is too few"):
        evaluate(predictions(), resamples=0)


def test_the_display_shows_intervals_and_a_dash_for_what_is_not_defined():
    shown = evaluate(predictions(), baseline=predictions().assign(score=0.2), resamples=50)
    text = shown.display_table().set_index("metric")
    assert text.loc["AUROC", "baseline"] == "0.500 (0.500 to 0.500)"
    assert text.loc["calibration slope", "baseline"] == "–"
    assert "baseline not defined (all scores are equal)" in text.loc["calibration slope", "note"]
    assert text.loc["AUROC", "difference"].startswith("+0.")
