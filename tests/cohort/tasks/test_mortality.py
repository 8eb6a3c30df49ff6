from clinical.cohort.tasks.mortality import Mortality

import pytest

IN, OUT = "ICU_ADMISSION//MICU", "ICU_DISCHARGE//MICU"
BACK = "HOSPITAL_ADMISSION//EMERGENCY"
HOME, DIED, DEATH = "HOSPITAL_DISCHARGE//HOME", "HOSPITAL_DISCHARGE//DIED", "MEDS_DEATH"
ANY = "LAB//1"


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([(0, IN), (60, OUT), (90, HOME)], [False]),
        ([(0, IN), (60, OUT), (90, DIED)], [True]),
        ([(0, IN), (60, OUT), (90, "HOSPITAL_DISCHARGE//DEAD/EXPIRED")], [True]),
        ([(0, IN), (60, OUT), (90, "HOSPITAL_DISCHARGE//Expired")], [True]),
        ([(0, IN), (60, OUT), (90, DEATH), (90, HOME)], [True]),
        ([(0, IN), (60, OUT), (90, HOME), (9000, DEATH)], [False]),
        ([(0, IN), (48, OUT), (90, HOME)], []),  # left at the prediction time
        ([(0, IN), (30, HOME)], []),
        ([(0, IN), (30, DEATH)], []),
        ([(0, IN)], [None]),  # nothing says how it ended
        ([(0, IN), (90, DEATH)], [True]),
        ([(0, OUT), (0, IN), (60, OUT), (90, HOME)], [False]),  # moved in from another unit
        ([(0, IN), (60, OUT), (70, IN), (130, OUT), (150, DIED)], [True, True]),
        ([(0, IN), (90, HOME), (500, IN), (560, DIED)], [False, True]),
        ([(0, IN), (500, BACK), (510, DIED)], [None]),  # that was another stay
        ([(None, IN)], []),
    ],
)
def test_death_in_the_hospital_follows_the_stay(events, rows, labels):
    found = Mortality().build(events(*rows), kind="binary").samples
    assert found["boolean_value"].to_list() == labels


@pytest.mark.parametrize(
    ("rows", "label"),
    [
        ([(0, IN), (148, DEATH)], True),  # the horizon is inclusive
        ([(0, IN), (148.01, DEATH)], False),
        ([(0, IN), (60, HOME), (140, DEATH)], True),  # wherever
        ([(0, IN), (60, HOME)], None),  # nobody knows
        ([(0, IN), (148, ANY)], False),
        ([(0, IN), (147.9, ANY)], None),
        ([(0, IN), (53, DEATH)], None),  # in the gap, inclusive
        ([(0, IN), (53.01, DEATH)], True),
    ],
)
def test_death_within_hours_needs_a_record_until_then(events, rows, label):
    build = Mortality(within_hours=100, gap_hours=5).build
    assert build(events(*rows), kind="binary").samples["boolean_value"].to_list() == [label]


def test_who_has_no_event_any_more_is_alive_where_that_is_assumed(events):
    builder = Mortality(within_hours=100, follow_up="assumed")
    found = builder.build(events((0, IN), (60, HOME)), kind="binary").samples
    assert found["boolean_value"].to_list() == [False]


@pytest.mark.parametrize(
    ("keys", "rows", "hours", "observed"),
    [
        ({}, [(0, IN), (90, DIED)], 42, True),
        ({}, [(0, IN), (90, HOME), (95, DEATH)], 42, False),
        ({}, [(0, IN), (90, ANY)], None, None),
        ({"within_hours": 100}, [(0, IN), (90, HOME), (95, DEATH)], 47, True),
        ({"within_hours": 100}, [(0, IN), (90, ANY)], 42, False),
        ({"within_hours": 100}, [(0, IN), (900, DEATH)], 100, False),
        ({"gap_hours": 6}, [(0, IN), (50, DIED)], None, None),
    ],
)
def test_hours_to_death_are_censored_where_the_view_ends(events, keys, rows, hours, observed):
    found = Mortality(**keys).build(events(*rows), kind="time_to_event").samples
    assert found["float_value"].to_list() == [hours]
    assert found["boolean_value"].to_list() == [observed]
