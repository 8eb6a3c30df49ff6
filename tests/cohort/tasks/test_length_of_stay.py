from clinical.cohort.tasks.length_of_stay import LengthOfStay

import pytest

IN, OUT = "ICU_ADMISSION//MICU", "ICU_DISCHARGE//MICU"
HOME, DIED, DEATH = "HOSPITAL_DISCHARGE//HOME", "HOSPITAL_DISCHARGE//DIED", "MEDS_DEATH"


@pytest.mark.parametrize(
    ("keys", "unit", "rows", "value"),
    [
        ({}, "hours", [(0, IN), (60, OUT), (90, HOME)], 60),
        ({}, "days", [(0, IN), (60, OUT), (90, HOME)], 2.5),
        ({"unit_exit": None}, "hours", [(0, IN), (60, OUT), (90, HOME)], 90),
        ({"measured": "remaining"}, "hours", [(0, IN), (60, OUT), (90, HOME)], 36),
        ({}, "hours", [(0, IN), (50, DEATH)], 50),
        ({"died": "unlabelled"}, "hours", [(0, IN), (50, DEATH)], None),
        ({"died": "unlabelled"}, "hours", [(0, IN), (50, OUT), (90, DIED)], 50),
        ({"died": "unlabelled"}, "hours", [(0, IN), (85, OUT), (85.5, DIED)], None),
        ({}, "hours", [(0, IN), (85, OUT), (85.5, DIED)], 85),
        ({}, "hours", [(0, IN)], None),
        # One that was never left has no end: the one that follows is another.
        ({}, "hours", [(0, IN), (600, IN), (660, OUT)], None),
    ],
)
def test_a_stay_is_as_long_as_from_its_anchor_to_its_end(events, keys, unit, rows, value):
    build = LengthOfStay(**keys).build
    found = build(events(*rows), kind="regression", unit=unit).samples
    assert found["float_value"].to_list()[0] == value


def test_who_has_left_by_the_prediction_time_is_no_sample(events):
    build = LengthOfStay().build
    assert build(events((0, IN), (24, OUT)), kind="regression", unit="days").samples.is_empty()


@pytest.mark.parametrize(("hours", "long"), [(72, False), (72.01, True)])
def test_a_long_stay_is_longer_than_the_limit(events, hours, long):
    builder = LengthOfStay(longer_than_hours=72)
    found = builder.build(events((0, IN), (hours, OUT)), kind="binary").samples
    assert found["boolean_value"].to_list() == [long]


@pytest.mark.parametrize(
    ("rows", "hours", "observed"),
    [
        ([(0, IN), (60, OUT), (90, HOME)], 36, True),
        ([(0, IN), (60, DIED)], 36, False),
        ([(0, IN), (60, OUT), (90, DIED)], 36, True),
        ([(0, IN), (60, OUT), (60.5, DIED)], 36, False),
        ([(0, IN), (60, OUT), (60, HOME), (71.999, DEATH)], 36, False),  # the day alone is known
        ([(0, IN), (60, OUT), (60, HOME), (72, DEATH)], 36, True),
        ([(0, IN), (71, OUT), (77, DIED)], 47, False),  # the next day, within the margin
        ([(0, IN), (71, OUT), (77.01, DIED)], 47, True),
        # Who leaves and dies in the next stay left this one alive.
        ([(0, IN), (60, OUT), (62, IN), (64, DIED)], 36, True),
    ],
)
def test_leaving_alive_is_censored_at_death(events, rows, hours, observed):
    found = LengthOfStay().build(events(*rows), kind="time_to_event").samples
    assert found["float_value"].to_list() == [hours]
    assert found["boolean_value"].to_list() == [observed]


def test_the_margin_of_a_death_can_be_set(events):
    rows = events((0, IN), (71, OUT), (77, DIED))
    found = LengthOfStay(death_margin_hours=0).build(rows, kind="time_to_event").samples
    assert found["boolean_value"].to_list() == [True]


@pytest.mark.parametrize(
    ("keys", "kind", "unit", "problem"),
    [
        ({}, "regression", "miles", "set unit: to hours or days"),
        ({}, "binary", None, "needs longer_than_hours"),
        ({"longer_than_hours": 9.0}, "regression", "days", "is for a binary task"),
        ({"gap_hours": 9.0}, "regression", "days", "gap_hours: says nothing"),
        ({}, "multiclass", None, "makes no labels of a multiclass task"),
    ],
)
def test_keys_that_do_not_go_together_are_told(keys, kind, unit, problem):
    assert problem in (LengthOfStay(**keys).problem(kind, unit) or "")
