"""How scores do without some inputs, as text; worked out by hand."""

from clinical.evaluation.missing_inputs import as_present, forced, not_shown
from clinical.evaluation.patterns import pattern_name, patterns

import pandas as pd

MODALITIES = ["events", "static", "notes", "images"]


def cost(part, metric, without, difference, *, whole=0.8):
    low, high = difference - 0.1, difference + 0.1
    row = {"task": "death", "left_out": part, "metric": metric, "whole": whole}
    row |= {"without": without, "difference": difference}
    return row | {"difference_low": low, "difference_high": high}


def test_what_a_part_is_worth_stands_in_its_line_below_the_whole():
    rows = [cost("notes", "AUROC", 0.7, 0.1), cost("graph", "AUROC", None, 0.0)]
    found = forced([*rows, cost("notes", "AUPRC (average precision)", 0.4, 0.2, whole=0.6)])
    assert found.to_dict("records") == [
        {
            "left out": "nothing",
            "AUROC": "0.800",
            "AUROC difference": "–",
            "AUPRC": "0.600",
            "AUPRC difference": "–",
        },
        {
            "left out": "notes",
            "AUROC": "0.700",
            "AUROC difference": "+0.100 (+0.000 to +0.200)",
            "AUPRC": "0.400",
            "AUPRC difference": "+0.200 (+0.100 to +0.300)",
        },
        {
            "left out": "graph",
            "AUROC": "–",
            "AUROC difference": "+0.000 (−0.100 to +0.100)",
            "AUPRC": "–",
            "AUPRC difference": "–",
        },
    ]


def pattern(group, n, events, value, *, column="modalities", metric="AUROC", note=""):
    row = {"column": column, "group": group, "n": n, "events": events, "note": note}
    return row | {"metric": metric, "value": value, "low": None, "high": None}


def test_patients_by_what_they_have_come_with_their_number_and_hidden_ones_with_none():
    note = "2 groups: fewer than 10 people"
    rows = [
        pattern("all", 1000, 90, 0.8, column="all"),
        pattern("everything", 900, 80, 0.82),
        pattern("not shown", None, None, None, metric=None, note=note),
    ]
    assert as_present(rows).to_dict("records") == [
        {"inputs present": "everybody", "rows": "1,000", "events": "90", "AUROC": "0.800"},
        {"inputs present": "everything", "rows": "900", "events": "80", "AUROC": "0.820"},
    ]
    assert not_shown(rows) == "Not shown: 2 groups by modalities: fewer than 10 people."
    assert not_shown(rows[:2]) == ""


def test_a_pattern_is_named_by_the_shorter_of_what_is_there_and_what_is_not():
    assert pattern_name(MODALITIES, MODALITIES) == "everything"
    assert pattern_name(["events", "static"], MODALITIES) == "without notes, images"
    assert pattern_name(["events"], MODALITIES) == "events alone"
    assert pattern_name([""], MODALITIES) == "nothing"


def test_patterns_are_of_samples_and_begin_with_the_fullest():
    rows = [("events", 1), ("events+static+notes+images", 2), ("events+images", 3)]
    predictions = pd.DataFrame(
        [
            {
                "subject_id": subject,
                "prediction_time": pd.Timestamp("2150-01-01"),
                "task": task,
                "modalities": present,
            }
            for task in ("a", "b")
            for present, subject in rows
        ]
    )
    found = patterns(predictions, MODALITIES)
    assert list(found["subject_id"]) == [1, 2, 3]
    assert list(found["modalities"]) == ["events alone", "everything", "without static, notes"]
    assert list(found["modalities"].cat.categories) == [
        "everything",
        "without static, notes",
        "events alone",
    ]
