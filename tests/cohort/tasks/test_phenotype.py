from clinical.cohort.tasks.phenotype import Phenotype

import pytest

IN, HOME, BACK = "ICU_ADMISSION//M", "HOSPITAL_DISCHARGE//HOME", "HOSPITAL_ADMISSION//X"
AKI, LAB = "DIAGNOSIS//584", "LAB//CREATININE"


@pytest.mark.parametrize(
    ("keys", "rows", "labels"),
    [
        ({}, [(0, IN), (90, AKI), (90, HOME)], [True]),  # coded at the discharge
        ({}, [(0, IN), (90, HOME), (91, AKI)], [False]),
        ({}, [(0, IN), (20, AKI), (90, HOME)], [False]),  # it shows before: visible, not a label
        ({}, [(0, IN), (24, AKI), (90, HOME)], [False]),
        ({}, [(0, IN), (90, BACK), (99, AKI), (99, HOME)], [None]),
        ({"only_new": True}, [(0, IN), (24, AKI), (90, AKI), (90, HOME)], []),
        ({"times": 2}, [(0, IN), (50, AKI), (50, AKI), (90, HOME)], [False]),
        ({"times": 2}, [(0, IN), (50, AKI), (60, AKI), (90, HOME)], [True]),
        ({"times": 2, "only_new": True}, [(0, IN), (5, AKI), (60, AKI), (90, HOME)], [False]),
        ({"within_hours": 24}, [(0, IN), (48, AKI)], [True]),
        ({"within_hours": 24}, [(0, IN), (49, AKI)], [False]),
        ({"within_hours": 24}, [(0, IN), (30, HOME)], [None]),
        ({"within_hours": 24}, [(0, IN), (30, "MEDS_DEATH")], [False]),
        ({"coded_after_hours": 168}, [(0, IN), (90, HOME), (258, AKI)], [True]),
        ({"coded_after_hours": 168}, [(0, IN), (90, HOME), (95, BACK), (258, AKI)], [True]),
        # Of a stay that ended at 99, and of one that had ended before this began:
        ({"coded_after_hours": 168}, [(0, IN), (90, HOME), (95, BACK), (267, AKI)], [False]),
        ({"coded_after_hours": 168}, [(0, IN), (60, AKI), (90, HOME)], [False]),
        (
            {"coded_after_hours": 168},
            [(0, IN), (89.5, "MEDS_DEATH"), (90, HOME), (258, AKI)],
            [True],
        ),
        ({"coded_after_hours": 168}, [(0, IN), (90, "MEDS_DEATH"), (258, AKI)], [True]),
        ({"within_hours": 24, "gap_hours": 12}, [(0, IN), (36, AKI), (99, HOME)], [None]),
    ],
)
def test_a_condition_is_looked_for_after_the_prediction_time(events, keys, rows, labels):
    found = Phenotype(codes=(AKI,), **keys).build(events(*rows), kind="binary").samples
    assert found["boolean_value"].to_list() == labels


@pytest.mark.parametrize(
    ("limits", "value", "label"),
    [
        ({"above": 3}, 3.0, False),
        ({"above": 3}, 3.1, True),
        ({"above": 3}, None, False),
        ({"below": 1}, 0.9, True),
        ({"above": 1, "below": 2}, 1.5, True),
        ({"above": 1, "below": 2}, 2.5, False),
    ],
)
def test_a_value_counts_beyond_its_limit_alone(events, limits, value, label):
    rows = events((0, IN), (50, LAB, value), (90, HOME))
    found = Phenotype(codes=(LAB,), **limits).build(rows, kind="binary").samples
    assert found["boolean_value"].to_list() == [label]


def test_hours_to_the_first_are_censored_at_the_end_of_the_stay(events):
    build = Phenotype(codes=(AKI,)).build
    found = build(events((0, IN), (50, AKI), (90, HOME)), kind="time_to_event").samples
    assert found.select("float_value", "boolean_value").row(0) == (26.0, True)
    found = build(events((0, IN), (90, HOME), (95, AKI)), kind="time_to_event").samples
    assert found.select("float_value", "boolean_value").row(0) == (66.0, False)
