"""What travels of a run holds no count of few people, and none from which one would follow."""

from clinical.evaluation import evaluate
from clinical.evaluation.withholding import withhold_counts, withhold_facts

import json

import numpy as np
import pandas as pd

FIT = {"kind": "platt", "n": 90, "events": 40, "reason": None}


def predictions(events, *, task="death", n=60, unscored=0, label_class=None):
    """Scores of n people, the first `events` of them with the event, some without a score."""
    score = np.linspace(0.1, 0.9, n)
    score[n - unscored :] = np.nan
    return pd.DataFrame(
        {
            "subject_id": np.arange(n),
            "prediction_time": pd.Timestamp("2150-01-01"),
            "task": task,
            "score": score,
            "label": (np.arange(n) < events).astype(float),
            "class": label_class,
        }
    )


def written(table, **others):
    evaluation = evaluate(table, thresholds=[0.5], resamples=5)
    metrics = {
        "split": "held_out",
        "counts": {"samples": {"train": 300, "held_out": 60}},
        "calibration": {},
        "members": {},
        "relations": {},
        "evaluation": evaluation.to_json(smallest=10),
    } | others
    return withhold_facts(metrics, {}, 10)


def test_a_task_with_few_events_has_neither_counts_nor_figures():
    few, enough = written(predictions(9)), written(predictions(10))
    (task,) = few["evaluation"]["tasks"]
    assert task["metrics"] == {}
    assert {task[key] for key in ("n", "subjects", "events")} == {None}
    assert few["evaluation"]["at_thresholds"] == []
    (task,) = enough["evaluation"]["tasks"]
    assert (task["n"], task["events"]) == (60, 10)
    assert task["metrics"]["AUROC"]["value"] is not None
    assert len(enough["evaluation"]["at_thresholds"]) > 1


def test_few_without_the_event_are_few_as_well():
    assert written(predictions(51))["evaluation"]["tasks"][0]["events"] is None


def test_classes_are_withheld_together_since_they_share_their_patients():
    table = pd.concat(
        [
            predictions(30, label_class="a"),
            predictions(4, label_class="b"),
        ]
    )
    assert [task["n"] for task in written(table)["evaluation"]["tasks"]] == [None, None]


def test_few_left_out_do_not_follow_from_the_size_of_the_split():
    facts = written(predictions(20, unscored=3))
    (task,) = facts["evaluation"]["tasks"]
    assert task["without_score"] is None
    assert task["n"] == 57
    assert facts["counts"]["samples"] == {"train": 300, "held_out": None}
    tuning = {"samples": {"train": 300, "select": 30, "calibrate": 30}}
    told = written(predictions(20, unscored=3), counts=tuning)["counts"]["samples"]
    assert told == {"train": 300, "select": None, "calibrate": None}
    assert written(predictions(20))["counts"]["samples"]["held_out"] == 60


def test_what_a_part_costs_does_not_say_how_many_had_a_score_without_it():
    whole = predictions(20).assign(left_out=None)
    less = predictions(20, unscored=2).assign(left_out="notes")
    rows = written(pd.concat([whole, less]))["evaluation"]["costs"]
    assert {row["n"] for row in rows} == {row["events"] for row in rows} == {None}
    assert all(row["difference"] is not None for row in rows)


def test_calibration_on_few_events_says_neither_how_many_nor_why_in_numbers():
    few = {**FIT, "events": 7, "reason": "only 7 positives and 83 negatives: Platt's line"}
    found = written(predictions(20), calibration={"death": few, "other": FIT})["calibration"]
    assert found["death"] == {**few, "events": None, "reason": "few: Platt's line"}
    assert found["other"] == FIT


def test_how_many_are_atypical_is_told_only_of_many_on_either_side():
    found = {"calibrated_on": 80, "level": 0.05, "judged": 60, "atypical": 12}
    assert written(predictions(20), typicality=found)["typicality"] == found
    for few in (3, 55):
        told = written(predictions(20), typicality={**found, "atypical": few})["typicality"]
        assert told == {**found, "atypical": None}
    assert written(predictions(20))["typicality"] == {}


def test_what_samples_have_is_told_in_steps_of_five_percent():
    counts = {"samples": {"train": 100}, "modalities": {"a+b": 62, "a": 36, "c": 2}}
    present = written(predictions(20), counts=counts)["present"]
    assert present == {"a": "over 95 %", "b": "about 60 %", "c": "under 5 %"}


def test_shares_of_a_relation_are_too_coarse_to_count_by():
    told = {"death": {"gain": 0.1, "error": 0.2, "n": 297.0}}
    figures = {"linked": 0.987, "open": 1, "tried": told}
    relations = {"a": figures, "b": {**figures, "linked": 1.0}}
    found = written(predictions(20), relations=relations)["relations"]
    assert found["a"]["linked"] == 0.95
    assert found["b"]["linked"] == 1.0
    assert "n" not in found["a"]["tried"]["death"]


COUNTS = {
    "samples": {"train": 80, "held_out": 20},
    "modalities": {"a+b": 70, "a": 22, "b": 8},
    "labels": {"x: labelled": 100, "x: positive": 95, "y: labelled": 60, "y: positive": 30},
    "neighbours": {"similar": 100, "same_unit": 96, "given": 4},
    "images": {"missing": 3, "visible_events": 50},
}


def fewest(counts):
    """As if everybody had one sample."""
    found = {g: {k: min(n, 100 - n) for k, n in counts[g].items()} for g in counts}
    found["labels"] = {"x: labelled": 0, "x: positive": 5, "y: labelled": 40, "y: positive": 30}
    return {group: found[group] for group in ("samples", "modalities", "labels")}


def test_counts_of_few_go_and_with_them_what_gives_them_away():
    found = withhold_counts(COUNTS, fewest(COUNTS), 10)
    assert found["samples"] == COUNTS["samples"]
    # 8 alone would be what is missing of 100.
    assert found["modalities"] == {"a+b": 70, "a": None, "b": None}
    # 5 have no x.
    assert found["labels"] == {
        "x: labelled": None,
        "x: positive": None,
        "y: labelled": 60,
        "y: positive": 30,
    }
    # 4 have no neighbour, and 4 have one.
    assert found["neighbours"] == {"similar": 100, "same_unit": None, "given": None}
    assert found["images"] == {"missing": None, "visible_events": 50}
    assert json.loads(json.dumps(found)) == found


def test_subjects_of_a_split_go_with_its_samples():
    counts = {"samples": {"train": 90, "held_out": 8}, "subjects": {"train": 80, "held_out": 7}}
    found = withhold_counts(counts, {"samples": {"train": 80, "held_out": 7}}, 10)
    assert found["subjects"] == found["samples"] == {"train": None, "held_out": None}


def test_people_count_and_not_their_samples():
    few_people = {"samples": {"train": 70, "held_out": 4}}
    found = withhold_counts({"samples": COUNTS["samples"]}, few_people, 10)
    assert found["samples"]["held_out"] is None


def alerting(high, between):
    """Of 300 people some have a high score, and some one in between: (with the event, without)."""
    labels = np.concatenate([np.repeat([1.0, 0.0], pair) for pair in (high, between, (40, 60))])
    scores = np.repeat([0.9, 0.5, 0.1], [sum(high), sum(between), 100])
    table = predictions(0, n=len(labels)).assign(score=scores, label=labels)
    return evaluate(table, thresholds={"high": 0.8, "low": 0.3}, resamples=5)


def thresholds_told(evaluation):
    content = evaluation.to_json(smallest=10)["at_thresholds"]
    return {row["at"] for row in content}


def test_rates_of_few_alerts_are_not_told():
    assert thresholds_told(alerting((20, 10), (10, 30))) == {"high", "low"}
    # One true and two false alerts: rates times rows would say so.
    assert thresholds_told(alerting((1, 2), (30, 30))) == {"low"}
    assert thresholds_told(alerting((20, 2), (30, 30))) == {"low"}


def test_rates_at_one_threshold_do_not_tell_few_beside_another():
    assert len(thresholds_told(alerting((20, 20), (3, 30)))) == 1
    assert thresholds_told(alerting((20, 20), (0, 30))) == {"high", "low"}


def test_a_dying_patient_with_many_rows_is_one_person():
    rolling = predictions(0, n=140).assign(
        subject_id=np.r_[np.zeros(40, int), np.arange(1, 101)],
        prediction_time=pd.Timestamp("2150-01-01") + pd.to_timedelta(np.arange(140), unit="h"),
        label=np.r_[np.ones(40), np.zeros(100)],
    )
    (task,) = evaluate(rolling, resamples=5).to_json(smallest=10)["tasks"]
    assert {task["n"], task["events"]} == {None}
    assert task["metrics"] == {}
