"""Rules say when to predict as a clinician would, and never after a stay has ended."""

import clinical  # noqa: F401
from clinical.cohort.selection import Selection
from clinical.cohort.time_rule import ENDS, TimeRule
from clinical.cohort.window import prediction_times
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.extract.write import write_extract

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

BASE = datetime(2150, 1, 1)


def at(hour):
    return None if hour is None else BASE + timedelta(hours=hour)


def extract_of(root, *events, shards=1) -> Extract:
    """Of (subject, hour, code)."""
    frame = pl.DataFrame(
        [(subject, at(hour), code) for subject, hour, code in events],
        schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String},
        orient="row",
    )
    frames = [frame.filter(pl.col("subject_id") % shards == number) for number in range(shards)]
    root.mkdir()
    write_extract(
        root,
        shards=[each for each in frames if each.height],
        codes=frame.select("code").unique(),
        dataset={"dataset_name": "rules"},
    )
    return Extract.open(root)


def hours_of(samples: pl.DataFrame) -> list[tuple[int, float]]:
    return [
        (subject, (time - BASE) / timedelta(hours=1))
        for subject, time in samples.sort("subject_id", "prediction_time").iter_rows()
    ]


# Reading a rule


@pytest.mark.parametrize(
    ("text", "anchor", "hours"),
    [
        ("ICU_ADMISSION + 48h", "ICU_ADMISSION", 48),
        ("ICU_ADMISSION+2d", "ICU_ADMISSION", 48),
        ("  LAB//A-1  +  30 min ", "LAB//A-1", 0.5),
        ("regex:ICU//.+ + 1w", "regex:ICU//.+", 168),
        ("ICU_ADMISSION//A - B (C) + 1h", "ICU_ADMISSION//A - B (C)", 1),
        ("ICU_ADMISSION", "ICU_ADMISSION", 0),
        ("X + 1.5h", "X", 1.5),
    ],
)
def test_a_rule_is_read_as_it_is_written(text, anchor, hours):
    rule = TimeRule.parse(text)
    assert rule.anchor == anchor
    assert rule.after_hours == hours


@pytest.mark.parametrize("text", ["", "SURGERY - 2h", "ICU + 48", "ICU +", "ICU + 2 years", "+ 2h"])
def test_a_rule_that_cannot_be_read_is_refused(text):
    with pytest.raises(ConfigError, match="write it as"):
        TimeRule.parse(text)


@pytest.mark.parametrize("every", ["0h", "6", "h", "-6h", "six hours"])
def test_a_step_that_is_no_time_above_zero_is_refused(every):
    with pytest.raises(ConfigError, match="is no time above 0"):
        TimeRule.parse("ICU", every=every)


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="no regular expression"):
        TimeRule.parse("regex:ICU(")
    with pytest.raises(ConfigError, match="no regular expression"):
        TimeRule.parse("ICU", until=["regex:["])


def test_an_admission_ends_with_its_own_discharge_or_any_end():
    assert TimeRule.parse("ICU_ADMISSION + 1h").ends == ("ICU_DISCHARGE", *ENDS)
    assert TimeRule.parse("HOSPITAL_ADMISSION").ends == ENDS
    assert TimeRule.parse("LAB//X").ends == ENDS
    assert TimeRule.parse("LAB//X", until=["OUT"]).ends == ("OUT",)


@pytest.mark.parametrize(
    "text", ["ICU_ADMISSION//MICU", "ICU_ADMISSION//M (ADMISSIONS)//2", "regex:ICU_ADMISSION//.*"]
)
def test_a_stay_in_one_unit_ends_with_the_discharge_from_any(text):
    assert TimeRule.parse(f"{text} + 1h").ends == ("ICU_DISCHARGE", *ENDS)


def test_a_pattern_that_does_not_tell_what_ends_a_stay_asks_for_it():
    with pytest.raises(ConfigError, match="say it with until"):
        TimeRule.parse("regex:(ICU|CCU)_ADMISSION + 1h")
    rule = TimeRule.parse("regex:(ICU|CCU)_ADMISSION + 1h", until=["OUT"])
    assert rule.ends == ("OUT",)


def test_a_rule_and_a_file_or_a_step_alone_are_refused():
    with pytest.raises(ConfigError, match="cannot both say"):
        Selection.of(samples="x.parquet", at="ICU")
    with pytest.raises(ConfigError, match="say when"):
        Selection.of(every="6h")
    with pytest.raises(ConfigError, match=r"there is no heldout; did you mean held_out\?"):
        Selection.of(split="heldout")


# Following it


def test_each_anchor_gives_a_sample_unless_its_stay_has_ended(tmp_path):
    extract = extract_of(
        tmp_path / "extract",
        (1, 0, "ICU_ADMISSION//A"),
        (1, 72, "ICU_DISCHARGE"),
        (1, 100, "ICU_ADMISSION//B"),
        (1, 130, "HOSPITAL_DISCHARGE//HOME"),
        (2, 5, "ICU_ADMISSION"),
        (2, 53, "MEDS_DEATH"),
        (3, None, "ICU_ADMISSION"),
        (3, 7, "ICU_ADMISSION_NOT"),
        (4, 8, "ICU_ADMISSION"),
        shards=2,
    )
    rule = TimeRule.parse("ICU_ADMISSION + 48h")
    # 1: the second stay ends after 30 hours; 2: dies at that very time; 3: nothing dated; 4: open.
    assert hours_of(rule.samples(extract)) == [(1, 48), (4, 56)]


def test_a_stay_is_predicted_again_and_again_until_it_ends(tmp_path):
    extract = extract_of(
        tmp_path / "extract",
        (1, 0, "ICU_ADMISSION"),
        (1, 18, "ICU_DISCHARGE"),
        (2, 0, "ICU_ADMISSION"),
        (2, 12, "LAB"),
        (3, 0, "ICU_ADMISSION"),
        (3, 8, "ICU_ADMISSION"),
        (3, 15, "LAB"),
    )
    rule = TimeRule.parse("ICU_ADMISSION", every="6h")
    expected = {1: [0, 6, 12], 2: [0, 6, 12], 3: [0, 6, 8, 14]}  # not 18: it sees the discharge
    assert hours_of(rule.samples(extract)) == [
        (s, h) for s, hours in expected.items() for h in hours
    ]


def test_an_anchor_that_nobody_has_and_stays_that_are_over_are_told(tmp_path):
    extract = extract_of(tmp_path / "extract", (1, 0, "ICU_ADMISSION"), (1, 9, "ICU_DISCHARGE"))
    with pytest.raises(SchemaError, match="no dated event of the extract has the code WARD"):
        TimeRule.parse("WARD").samples(extract)
    with pytest.raises(SchemaError, match="all 1 stays that begin with ICU_ADMISSION have ended"):
        TimeRule.parse("ICU_ADMISSION + 9h").samples(extract)


UNIT = "Medical Intensive Care Unit (MICU)"


@pytest.mark.parametrize(
    "anchor", [f"ICU_ADMISSION//{UNIT}", r"regex:ICU_ADMISSION//.*\(MICU\)", "ICU_ADMISSION"]
)
def test_a_units_name_in_brackets_is_taken_as_it_is(tmp_path, anchor):
    extract = extract_of(
        tmp_path / "extract",
        (1, 0, f"ICU_ADMISSION//{UNIT}"),
        (1, 10, "ICU_DISCHARGE//Surgical (SICU)"),  # the unit that the patient went on to
        (1, 99, "HOSPITAL_DISCHARGE//HOME"),
        (2, 0, f"ICU_ADMISSION//{UNIT}"),
        (2, 30, f"ICU_DISCHARGE//{UNIT}"),
    )
    rule = TimeRule.parse(f"{anchor} + 12h")
    assert hours_of(rule.samples(extract)) == [(2, 12)]
    rule = TimeRule.parse(f"{anchor} + 12h", until=[f"ICU_DISCHARGE//{UNIT}"])
    assert hours_of(rule.samples(extract)) == [(1, 12), (2, 12)]


def test_a_code_is_no_pattern_unless_it_says_so(tmp_path):
    extract = extract_of(tmp_path / "extract", (1, 0, "ICU//A"), (1, 9, "LAB"))
    with pytest.raises(SchemaError, match=r"has the code ICU//\., .*begins with regex:\)"):
        TimeRule.parse("ICU//.").samples(extract)
    assert hours_of(TimeRule.parse("regex:ICU//.").samples(extract)) == [(1, 0)]
    with pytest.raises(SchemaError, match=r"has a code that matches ICU//B\+; see"):
        TimeRule.parse("regex:ICU//B+").samples(extract)


def test_an_end_that_nobody_has_is_refused_if_asked_for_and_else_told(tmp_path, caplog):
    extract = extract_of(
        tmp_path / "extract",
        (1, 0, "ICU_ADMISSION//A"),
        (1, 9, "ICU_END"),
        (2, 0, "ICU_ADMISSION//A"),
        shards=2,
    )
    with pytest.raises(SchemaError, match="until: no dated event of the extract has the code OUT"):
        TimeRule.parse("ICU_ADMISSION", until=["ICU_END", "OUT"]).samples(extract)
    TimeRule.parse("ICU_ADMISSION", until=["ICU_END"]).samples(extract)
    assert "no dated event" not in caplog.text
    TimeRule.parse("ICU_ADMISSION").samples(extract)
    assert "no dated event has the code ICU_DISCHARGE" in caplog.text


hours = st.integers(0, 40)


@given(
    st.lists(st.tuples(st.integers(1, 3), hours, st.none() | hours, hours), max_size=8),
    hours,
    st.none() | st.integers(1, 12),
)
def test_times_while_stays_last_are_those_of_a_naive_loop(stays, after, every):
    frame = pl.DataFrame(
        [(s, at(a), None if e is None else at(a + e), at(a + last)) for s, a, e, last in stays],
        schema={
            "subject_id": pl.Int64,
            "anchor": pl.Datetime("us"),
            "end": pl.Datetime("us"),
            "last": pl.Datetime("us"),
        },
        orient="row",
    )
    found = prediction_times(
        frame, after_hours=float(after), every_hours=None if every is None else float(every)
    )
    expected = set()
    for subject, anchor, end, last in stays:
        turn = 0
        while True:
            hour = after + turn * (every or 0)
            over = hour >= end if end is not None else turn > 0 and hour > last
            if over or (turn > 0 and every is None):
                break
            expected.add((subject, float(anchor + hour)))
            turn += 1
    assert hours_of(found) == sorted(expected)
