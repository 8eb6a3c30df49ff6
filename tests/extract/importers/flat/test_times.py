"""Times as sources write them, with values worked out by hand."""

from clinical.extract.importers.flat.keys import Times
from clinical.extract.importers.flat.reasons import Reason
from clinical.extract.importers.flat.times import TimeSettings, read_times

from datetime import date, datetime
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

RULES = TypeAdapter(Times)
START = date(2000, 1, 1)


def read(rule, cells, **settings):
    frame = pl.DataFrame(cells if isinstance(cells, dict) else {"t": cells})
    found = read_times(frame, RULES.validate_python(rule), TimeSettings(**settings))
    return [
        value if reason == 0 else Reason(reason).name
        for value, reason in zip(found.values.to_list(), found.why.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2020-01-02 03:04:05", datetime(2020, 1, 2, 3, 4, 5)),
        ("2020-01-02T03:04:05", datetime(2020, 1, 2, 3, 4, 5)),
        ("2020-01-02 03:04:05.25", datetime(2020, 1, 2, 3, 4, 5, 250_000)),
        ("2020-01-02 03:04", datetime(2020, 1, 2, 3, 4)),
        (" 2020-01-02 ", datetime(2020, 1, 2, 23, 59, 59)),
        (None, "NO_TIME"),
        ("  ", "NO_TIME"),
        ("02.01.2020", "BAD_TIME"),
        ("2020-02-30", "BAD_TIME"),
        ("2020-01-02 03:04:05 pm", "BAD_TIME"),
        ("43831", "BAD_TIME"),
        ("0000-01-01", "BAD_TIME"),
        ("20-01-02", "BAD_TIME"),
        ("1066-10-14", "FAR"),
        ("2301-01-01", "FAR"),
        ("10-11-2012", "BAD_TIME"),
        ("2020-01-02T03:04:05Z", "ZONED"),
        ("2020-01-02 03:04+02:00", "ZONED"),
    ],
)
def test_a_cell_is_read_by_iso_8601_or_not_at_all(cell, expected):
    # Beside a plain cell, and alone: the two take different ways.
    assert read("t", [cell, "2021-01-01 00:00:00"]) == [expected, datetime(2021, 1, 1)]
    assert read("t", pl.Series([cell], dtype=pl.String)) == [expected]


def test_formats_of_the_mapping_come_before_iso_and_those_of_a_rule_alone():
    cells = ["03.02.2020 07:00", "2020-01-02", "04.02.20"]
    first, second = datetime(2020, 2, 3, 7), datetime(2020, 1, 2, 23, 59, 59)
    assert read("t", cells, formats=("%d.%m.%Y %H:%M",)) == [first, second, "BAD_TIME"]
    short = datetime(2020, 2, 4, 23, 59, 59)
    for formats in (["%d.%m.%y"], ["%d.%m.%Y", "%d.%m.%y"]):
        rule = {"column": "t", "formats": formats}
        assert read(rule, cells) == ["BAD_TIME", "BAD_TIME", short]


@pytest.mark.parametrize(
    ("cell", "pattern"),
    [("12/31/20", "%m/%d/%Y"), ("12/31/202", "%m/%d/%Y"), ("20-12-31", "%F"), ("0020", "%Y")],
)
def test_a_year_of_four_digits_has_four(cell, pattern):
    assert read({"column": "t", "formats": pattern}, [cell]) == ["BAD_TIME"]


def test_the_mapping_says_which_years_are_mistyped():
    cells = ["1944-12-31 23:00:00", "1945-01-01 00:00:00", "2026-12-31 23:59:59", "2045-06-01"]
    found = read("t", cells, years=(1945, 2026))
    assert found == ["FAR", datetime(1945, 1, 1), datetime(2026, 12, 31, 23, 59, 59), "FAR"]
    typed = [datetime(1700, 1, 1), datetime(2020, 1, 1)]
    assert read("t", typed) == ["FAR", datetime(2020, 1, 1)]
    assert read({"after": "t", "years": 600}, typed) == ["FAR", "FAR"]


def test_the_latest_of_several_times_counts_and_empty_ones_do_not():
    rule = {"latest": ["stored", "ended"]}
    cells = {
        "stored": ["2020-01-01 10:00:00", "2020-01-01 10:00:00", None, None, "?"],
        "ended": ["2020-01-01 12:00:00", None, "2020-01-02", None, "2020-01-01 12:00:00"],
    }
    day_end = datetime(2020, 1, 2, 23, 59, 59)
    expected = [datetime(2020, 1, 1, 12), datetime(2020, 1, 1, 10), day_end, "NO_TIME", "BAD_TIME"]
    assert read(rule, cells) == expected
    assert read({"latest": ["ended", "stored"]}, cells) == expected
    frame = pl.DataFrame(cells)
    dates = read_times(frame, RULES.validate_python(rule), TimeSettings()).is_date
    assert dates.tolist() == [False, False, True, False, False]


def test_the_latest_may_be_counted_from_anchors_and_be_an_anchor_itself():
    offsets = {"latest": [{"after": START, "minutes": "a"}, {"after": START, "minutes": "b"}]}
    cells = {"a": ["5", "-60"], "b": ["-30", None]}
    assert read(offsets, cells) == [datetime(2000, 1, 1, 0, 5), datetime(1999, 12, 31, 23)]
    later = {"after": offsets, "hours": 1}
    assert read(later, cells) == [datetime(2000, 1, 1, 1, 5), datetime(2000, 1, 1)]
    with pytest.raises(ValueError, match="latest: is the latest of several times; name two"):
        read({"latest": ["a"]}, cells)


def test_times_in_the_hour_that_summer_time_repeats_are_told_from_others():
    cells = ["2020-10-25T02:30:00+02:00", "2020-10-25T02:30:00+01:00", "2020-10-25T03:30:00+01:00"]
    typed = pl.Series(cells).str.to_datetime("%Y-%m-%dT%H:%M:%S%z")
    for column in (pl.Series(cells), typed):
        frame = pl.DataFrame({"t": column})
        rules = RULES.validate_python("t")
        found = read_times(frame, rules, TimeSettings(zone="Europe/Zurich"))
        assert found.values.dt.hour().to_list() == [2, 2, 3]
        assert found.is_twice.tolist() == [True, True, False]
        assert not read_times(frame, rules, TimeSettings(zone="Etc/GMT-1")).is_twice.any()


def test_a_zone_is_converted_where_the_mapping_has_one():
    cells = ["2020-07-02T03:04:05Z", "2020-01-02 03:04+0200", "2020-01-02 10:00:00"]
    expected = [datetime(2020, 7, 2, 5, 4, 5), datetime(2020, 1, 2, 2, 4), datetime(2020, 1, 2, 10)]
    assert read("t", cells, zone="Europe/Zurich") == expected
    typed = pl.Series([datetime(2020, 7, 2, 3, tzinfo=ZoneInfo("UTC"))])
    assert read("t", typed, zone="Europe/Zurich") == [datetime(2020, 7, 2, 5)]
    assert read("t", typed) == ["ZONED"]


def test_a_day_is_at_its_end_and_as_an_anchor_at_its_start():
    assert read("t", ["2020-01-02"]) == [datetime(2020, 1, 2, 23, 59, 59)]
    assert read("t", [date(2020, 1, 2), None]) == [datetime(2020, 1, 2, 23, 59, 59), "NO_TIME"]
    assert read({"after": "t", "hours": 1}, ["2020-01-02"]) == [datetime(2020, 1, 2, 1)]
    midnight = ["2020-01-02 00:00:00", "2020-01-02 08:00:00"]
    ends = [datetime(2020, 1, 2, 23, 59, 59), datetime(2020, 1, 2, 8)]
    assert read({"date": "t"}, midnight) == ends
    assert read("t", midnight) == [datetime(2020, 1, 2), datetime(2020, 1, 2, 8)]


def test_the_first_rule_that_is_not_empty_counts_even_where_it_is_wrong():
    cells = {"stored": [None, "?", "2020-01-01 10:00:00"], "day": ["2020-05-05"] * 3}
    expected = [datetime(2020, 5, 5, 23, 59, 59), "BAD_TIME", datetime(2020, 1, 1, 10)]
    assert read(["stored", {"date": "day"}], cells) == expected


@pytest.mark.parametrize(
    ("span", "cell", "expected"),
    [
        ("seconds", "90", datetime(2000, 1, 1, 0, 1, 30)),
        ("minutes", "-90", datetime(1999, 12, 31, 22, 30)),
        ("minutes", "1e3", datetime(2000, 1, 1, 16, 40)),
        ("hours", "0.5", datetime(2000, 1, 1, 0, 30)),
        ("days", "31", datetime(2000, 2, 1)),
        ("years", "-62", datetime(1938, 1, 1)),
        ("clock", "7:30", datetime(2000, 1, 1, 7, 30)),
        ("clock", "49:00:10.5", datetime(2000, 1, 3, 1, 0, 10, 500_000)),
        ("clock", "7:61", "BAD_TIME"),
        ("hhmmss", "80556.875", datetime(2000, 1, 1, 8, 5, 56, 875_000)),
        ("hhmmss", "7060", "BAD_TIME"),
        ("minutes", "soon", "BAD_TIME"),
        ("minutes", None, "NO_TIME"),
        ("minutes", "NaN", "NO_TIME"),
        ("minutes", "1e12", "FAR"),
        ("years", "-1999", "FAR"),
    ],
)
def test_an_offset_is_counted_from_its_anchor(span, cell, expected):
    cells = pl.Series([cell], dtype=pl.String)
    assert read({"after": START, span: "t"}, cells) == [expected]


def test_before_is_the_other_direction_and_a_year_is_its_first_day():
    rule = {"before": {"column": "year", "formats": "%Y"}, "years": "age"}
    cells = {"year": [2150, 2151, None], "age": ["62", None, "3"]}
    assert read(rule, cells) == [datetime(2088, 1, 1), "NO_TIME", "NO_TIME"]


def test_an_anchor_may_be_counted_itself():
    rule = {"after": {"before": START, "minutes": "to_hospital"}, "minutes": "t"}
    cells = {"to_hospital": ["-60", "-30"], "t": ["5", "-5"]}
    assert read(rule, cells) == [datetime(2000, 1, 1, 1, 5), datetime(2000, 1, 1, 0, 25)]


def test_columns_are_put_together():
    rule = {"column": "{day} {clock}", "formats": "%d/%m/%Y %H:%M"}
    cells = {"day": ["01/02/2020", None], "clock": ["7:05", "8:00"]}
    assert read(rule, cells) == [datetime(2020, 2, 1, 7, 5), "NO_TIME"]


def test_an_excel_day_is_counted_from_the_one_that_excel_counts_from():
    rule = {"after": date(1899, 12, 30), "days": "t"}
    assert read(rule, ["43831.5"]) == [datetime(2020, 1, 1, 12)]


def test_a_bare_number_is_no_time():
    assert read("t", [43831, None]) == ["BAD_TIME", "NO_TIME"]


@given(st.lists(st.datetimes(datetime(1800, 1, 1), datetime(2300, 1, 1)), min_size=1, max_size=20))
def test_what_python_writes_is_read_back(times):
    assert read("t", [time.isoformat(sep=" ") for time in times]) == times
    assert read("t", times) == times
