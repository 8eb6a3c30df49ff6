import clinical  # noqa: F401
from clinical.cohort.window import ages, earlier, is_future, later, visible

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

BASE = datetime(2150, 1, 1)
WINDOWS = {"events": 24.0, "codes": None, "notes": 0.5}

hours = st.integers(-60, 60).map(lambda minutes: minutes * 30 / 60)
event = st.tuples(
    st.integers(1, 3), st.none() | hours, st.sampled_from(["events", "codes", "notes", None, "x"])
)
sample = st.tuples(st.integers(1, 4), hours)


def _time(hour):
    return None if hour is None else BASE + timedelta(hours=hour)


def _events(rows):
    return pl.DataFrame(
        [(subject, _time(hour), modality, i) for i, (subject, hour, modality) in enumerate(rows)],
        schema={
            "subject_id": pl.Int64,
            "time": pl.Datetime("us"),
            "modality": pl.String,
            "event": pl.Int64,
        },
        orient="row",
    )


def _samples(rows):
    return pl.DataFrame(
        [(i, subject, _time(hour)) for i, (subject, hour) in enumerate(rows)],
        schema={"sample": pl.Int64, "subject_id": pl.Int64, "prediction_time": pl.Datetime("us")},
        orient="row",
    )


def _naive(events, samples):
    found = []
    for i, (subject, now) in enumerate(samples):
        for j, (whose, then, modality) in enumerate(events):
            if whose != subject or modality not in WINDOWS:
                continue
            window = WINDOWS[modality]
            if then is None:
                found.append((i, j, None))
            elif then <= now and (window is None or now - window <= then):
                found.append((i, j, now - then))
    return found


@given(st.lists(event, max_size=25), st.lists(sample, max_size=6))
def test_the_cut_equals_a_loop_over_samples_and_events(events, samples):
    cut = visible(_events(events), _samples(samples), WINDOWS)
    assert cut.select("sample", "event", "hours").rows() == _naive(events, samples)


@pytest.mark.parametrize(
    ("microseconds", "is_seen"),
    [(0, True), (1, False), (-24 * 3_600_000_000, True), (-24 * 3_600_000_000 - 1, False)],
)
def test_both_ends_of_the_window_are_inclusive_to_the_microsecond(microseconds, is_seen):
    events = _events([(1, 0, "events")]).with_columns(
        pl.col("time") + timedelta(microseconds=microseconds)
    )
    assert visible(events, _samples([(1, 0)]), WINDOWS).height == is_seen


def test_nothing_but_hours_tells_of_dates():
    cut = visible(_events([(1, 0, "events")]), _samples([(1, 3)]), WINDOWS)
    assert not any(dtype.is_temporal() for dtype in cut.dtypes)
    assert cut["hours"].to_list() == [3.0]


def test_age_is_counted_from_the_first_birth_whatever_the_window():
    births = pl.DataFrame(
        {
            "subject_id": [1, 1, 2, 3],
            "time": [datetime(2100, 1, 1), datetime(2110, 1, 1), datetime(2160, 1, 1), None],
            "event": [4, 5, 6, 7],
        },
        schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "event": pl.Int64},
    )
    found = ages(births, _samples([(1, 0), (2, 0), (3, 0), (4, 0)]))
    assert found.select("sample", "event").rows() == [(0, 4)]
    assert found["years"].item() == pytest.approx(50.0, abs=0.01)


def test_only_what_comes_after_is_future():
    times = pl.DataFrame(
        {"prediction_time": [BASE] * 3, "time": [BASE, BASE + timedelta(microseconds=1), None]}
    )
    assert times.select(is_future().alias("future"))["future"].to_list() == [False, True, None]


def test_what_comes_later_is_what_is_not_visible_and_dated():
    samples = pl.DataFrame(
        {"sample": [0, 1], "subject_id": [1, 2], "prediction_time": [BASE, BASE]}
    )
    hours = [-3.0, 0.0, 0.001, 5.0, None]
    events = pl.DataFrame(
        {
            "subject_id": [1] * 5,
            "time": [None if h is None else BASE + timedelta(hours=h) for h in hours],
            "code": list("abcde"),
        },
        schema_overrides={"time": pl.Datetime("us")},
    )
    assert earlier(events, samples).select("sample", "code", "hours").rows() == [
        (0, "a", 3.0),
        (0, "b", 0.0),
    ]
    assert later(events, samples).select("sample", "code", "hours").rows() == [
        (0, "c", 0.001),
        (0, "d", 5.0),
    ]
    assert earlier(events, samples, hours=2)["code"].to_list() == ["b"]
