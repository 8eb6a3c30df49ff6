from clinical.errors import ConfigError
from clinical.modalities.routing import route

import datetime as dt
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

ALL = ("events", "static", "notes", "images", "codes")
SCHEMA = {
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "image_path": pl.String,
}
NOON = dt.datetime(2150, 1, 1, 12)

EVENT = st.fixed_dictionaries(
    {
        "time": st.sampled_from([None, NOON]),
        "code": st.sampled_from(["HR", "NOTE//progress", "DX//I10", "CXR", "MEDS_BIRTH"]),
        "numeric_value": st.sampled_from([None, 1.0]),
        "image_path": st.sampled_from([None, "images/1.png"]),
    }
)
SELECTS = st.dictionaries(
    st.sampled_from(ALL), st.sampled_from([None, ["HR"], ["DX//.*"], ["HR", "CXR"], []])
)


def routed(events, notes_codes=("NOTE//.*",), selects=None, configured=ALL):
    frame = pl.DataFrame(events, schema=SCHEMA)
    return frame.select(route(notes_codes, selects or {}, configured))["modality"].to_list()


def event(code="HR", time=NOON, number=None, image=None):
    return {"time": time, "code": code, "numeric_value": number, "image_path": image}


def naive(row, selects, configured):
    if row["code"] == "MEDS_BIRTH":
        return None
    own = {name: patterns for name, patterns in selects.items() if patterns is not None}
    for name, patterns in own.items():
        if name in configured and any(re.fullmatch(p, row["code"]) for p in patterns):
            return name
    if row["image_path"] is not None:
        name = "images"
    elif row["code"].startswith("NOTE//"):
        name = "notes"
    elif row["time"] is None:
        name = "static"
    else:
        name = "codes" if row["numeric_value"] is None else "events"
    return name if name in configured and name not in own else None


@given(
    rows=st.lists(EVENT, min_size=1, max_size=8),
    selects=SELECTS,
    configured=st.sets(st.sampled_from(ALL), min_size=1),
)
def test_routing_equals_its_rule_read_row_by_row(rows, selects, configured) -> None:
    expected = [naive(row, selects, configured) for row in rows]
    assert routed(rows, selects=selects, configured=configured) == expected


def test_each_rule_comes_before_the_next() -> None:
    events = [
        event("NOTE//x", None, 1.0, "a.png"),
        event("NOTE//x", None, 1.0),
        event("SEX", None, 1.0),
        event("HR", NOON, 1.0),
        event("DX"),
    ]
    assert routed(events) == ["images", "notes", "static", "events", "codes"]


def test_an_event_of_a_modality_that_is_not_configured_is_nobodys() -> None:
    assert routed([event("CXR", number=1.0, image="a.png")], configured=["events"]) == [None]


def test_a_selection_replaces_the_default_and_overrides_the_others() -> None:
    events = [event("HR", number=1.0), event("GCS", number=1.0), event("DX//I10")]
    found = routed(events, selects={"codes": ["GCS", "DX//.*"], "events": ["HR", "GCS"]})
    assert found == ["events", "codes", "codes"]
    assert routed(events, selects={"events": ["HR"]}) == ["events", None, "codes"]


def test_a_pattern_fits_from_end_to_end_and_a_code_fits_itself() -> None:
    events = [event("NOTE"), event("NOTE//x"), event("A (mg/dL)")]
    assert routed(events, notes_codes=["NOTE", "A (mg/dL)"]) == ["notes", "codes", "notes"]


def test_the_date_of_birth_is_no_input_even_if_selected() -> None:
    assert routed([event("MEDS_BIRTH")], selects={"codes": [".*"]}) == [None]


@pytest.mark.parametrize(
    ("notes_codes", "selects", "message"),
    [
        (["NOTE("], {}, r"modalities.notes.codes: NOTE\( is not a regular expression"),
        ([], {"codes": ["["]}, r"modalities.codes.select: \[ is not a regular expression"),
        ("NOTE", {}, r"modalities.notes.codes: give a list of codes, such as \[NOTE\]"),
    ],
)
def test_a_bad_pattern_is_refused_with_its_key(notes_codes, selects, message) -> None:
    with pytest.raises(ConfigError, match=message):
        route(notes_codes, selects, ALL)
