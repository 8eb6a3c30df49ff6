from clinical.cohort.tasks.readmission import Readmission

import pytest

IN, HOME, DIED = "HOSPITAL_ADMISSION//X", "HOSPITAL_DISCHARGE//HOME", "HOSPITAL_DISCHARGE//DIED"
DEATH, ANY = "MEDS_DEATH", "CLINIC"


@pytest.mark.parametrize(
    ("keys", "rows", "labels"),
    [
        ({}, [(0, IN), (50, HOME), (770, IN)], [True]),  # 30 days, inclusive
        ({}, [(0, IN), (50, HOME), (770.1, IN)], [False]),
        ({}, [(0, IN), (50, HOME)], [False]),
        ({}, [(0, IN), (50, DIED)], []),
        ({}, [(0, IN), (50, HOME), (50, DEATH)], []),
        ({}, [(0, IN), (50, HOME), (90, DEATH)], [False]),
        # A transfer at the very minute: back by the prediction time, whatever the gap.
        ({}, [(0, IN), (50, HOME), (50, IN), (90, HOME)], [False]),
        ({"gap_hours": 24}, [(0, IN), (50, HOME), (50, IN), (90, HOME)], [False]),
        ({"after_hours": 0.1}, [(0, IN), (50, HOME), (50, IN), (90, HOME)], [False]),
        ({}, [(0, IN), (9, HOME), (9, IN), (50, HOME), (50, IN)], []),
        # In and out on a day, where days alone are known: the admission is the stay's own.
        ({}, [(0, IN), (0, HOME)], [False]),
        ({}, [(0, IN), (0, HOME), (48, IN), (48, HOME)], [True, False]),
        ({}, [(0, IN), (0, HOME), (48, IN), (96, HOME)], [True, False]),
        # The record begins with a discharge, and the next shows that the subject was in between.
        ({}, [(50, HOME), (50, IN), (90, HOME)], [None, False]),
        ({}, [(50, HOME), (60, IN), (90, HOME), (100, IN)], [True, True]),
        ({"gap_hours": 24}, [(50, HOME), (60, IN), (90, HOME)], [None, False]),
        ({"which": "first"}, [(50, HOME), (60, IN), (90, HOME)], [True]),
        ({"after_hours": 20}, [(50, HOME), (60, IN)], []),
        ({"follow_up": "record"}, [(50, HOME)], [None]),
        ({"follow_up": "record"}, [(50, HOME), (770, ANY)], [False]),
        ({"follow_up": "record"}, [(50, HOME), (90, DEATH)], [False]),
        ({"readmission": "HOSPITAL_ADMISSION//EMERGENCY"}, [(50, HOME), (60, IN)], [False]),
    ],
)
def test_coming_back_counts_within_the_horizon(events, keys, rows, labels):
    found = Readmission(**keys).build(events(*rows), kind="binary").samples
    assert found["boolean_value"].to_list() == labels


@pytest.mark.parametrize(
    ("rows", "hours", "observed"),
    [
        ([(50, HOME), (60, IN)], 10, True),
        ([(50, HOME), (60, DEATH)], 10, False),
        ([(50, HOME), (60, ANY)], 10, False),
        ([(50, HOME)], 0, False),
    ],
)
def test_hours_to_coming_back_are_censored_at_death_and_at_the_last_event(
    events, rows, hours, observed
):
    found = Readmission().build(events(*rows), kind="time_to_event").samples
    assert found["float_value"].to_list() == [hours]
    assert found["boolean_value"].to_list() == [observed]


def test_a_horizon_that_ends_in_the_gap_is_told():
    problem = Readmission(within_hours=24.0, gap_hours=24.0).problem("binary", None)
    assert "ends before gap_hours does" in (problem or "")
