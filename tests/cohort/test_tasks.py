import clinical  # noqa: F401
from clinical.cohort.tasks import TASK_BUILDERS, mortality

from datetime import datetime, timedelta

import polars as pl
import pytest

BASE = datetime(2150, 1, 1)


def _events(*rows):
    return pl.DataFrame(
        [(1, None if hour is None else BASE + timedelta(hours=hour), code) for hour, code in rows],
        schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String},
        orient="row",
    )


IN, OUT = "ICU_ADMISSION//MICU", "ICU_DISCHARGE//MICU"
HOME, DIED, DEATH = "HOSPITAL_DISCHARGE//HOME", "HOSPITAL_DISCHARGE//DIED", "MEDS_DEATH"


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([(0, IN), (60, OUT), (90, HOME)], [False]),
        ([(0, IN), (60, OUT), (90, DIED)], [True]),
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
        ([(None, IN)], []),
    ],
)
def test_mortality_follows_the_stay(rows, labels):
    found = mortality(_events(*rows))
    assert found["boolean_value"].to_list() == labels


def test_the_prediction_time_is_the_anchor_plus_the_hours_asked_for():
    events = _events((1, "WARD//3"), (200, "END"))
    found = mortality(
        events, anchor="WARD//.*", after_hours=24, unit_exit="NEVER", stay_end="END", death=["D"]
    )
    assert found["prediction_time"].to_list() == [BASE + timedelta(hours=25)]


def test_a_pattern_matches_whole_codes_only():
    assert mortality(_events((0, "X" + IN), (60, OUT))).is_empty()


@pytest.mark.parametrize("name", TASK_BUILDERS)
def test_every_builder_gives_labels_from_an_extract_without_its_codes(name):
    found = TASK_BUILDERS[name](_events((0, "SOMETHING")))
    assert found.columns == ["subject_id", "prediction_time", "boolean_value"]
    assert found.is_empty()
