"""What holds of every built-in task, and the keys that all share."""

from clinical.cohort.tasks import TASK_BUILDERS, builder_of
from clinical.cohort.tasks.builder import Minimum
from clinical.cohort.tasks.mortality import Mortality
from clinical.cohort.tasks.patterns import matches, spoken
from clinical.config import TaskConfig
from clinical.errors import ConfigError

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

SHIPPED = sorted((Path(__file__).parents[3] / "configs" / "tasks").glob("*.yaml"))
IN, OUT, HOME = "ICU_ADMISSION//M", "ICU_DISCHARGE//M", "HOSPITAL_DISCHARGE//HOME"
CODES = [
    IN,
    OUT,
    HOME,
    "HOSPITAL_ADMISSION//X",
    "HOSPITAL_DISCHARGE//DIED",
    "MEDS_DEATH",
    "DIAGNOSIS//ICD9CM//5849",
    "LAB//1",
]


def task(path):
    return TaskConfig.model_validate(yaml.safe_load(path.read_text()))


def test_every_builder_has_a_task_that_is_shipped():
    assert {path.stem for path in SHIPPED} == {task(path).builder for path in SHIPPED}
    assert {path.stem for path in SHIPPED} == set(TASK_BUILDERS)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_no_sample_of_an_extract_without_the_codes(events, path):
    shipped = task(path)
    builder = builder_of(shipped, where="t")
    built = builder.build(events((0, "SOMETHING")), kind=shipped.kind, unit=shipped.unit)
    assert built.samples.columns[:2] == ["subject_id", "prediction_time"]
    assert built.samples.is_empty()
    assert built.flow.count("labelled") == 0


def histories():
    """Of a few subjects: subject, hours, code."""
    hours = st.integers(0, 12).map(lambda n: 12 * n)
    return st.lists(st.tuples(st.integers(1, 2), hours, st.sampled_from(CODES)), max_size=15)


def together(events, history):
    born = [events((-200_000, "MEDS_BIRTH"), subject=subject) for subject in (1, 2, 3)]
    return pl.concat([*born, *(events((h, code), subject=s) for s, h, code in history)])


def built_of(path, rows):
    shipped = task(path)
    return builder_of(shipped, where="t").build(rows, kind=shipped.kind, unit=shipped.unit)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
@settings(max_examples=30)
@given(history=histories(), hours=st.integers(0, 12).map(lambda n: 12 * n))
def test_nothing_after_a_prediction_time_decides_who_is_a_sample(
    events, base, path, history, hours
):
    rows = together(events, history)
    now = base + timedelta(hours=hours)
    by_now = pl.col("prediction_time") <= now
    then, later = (
        built_of(path, known).samples.filter(by_now).select("subject_id", "prediction_time")
        for known in (rows.filter(pl.col("time") <= now), rows)
    )
    assert then.equals(later)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
@settings(max_examples=30)
@given(history=histories())
def test_nothing_visible_but_the_anchor_decides_a_label(events, path, history):
    rows = together(events, history)
    found = built_of(path, rows).samples
    anchors = matches([builder_of(task(path), where="t").anchor, "MEDS_BIRTH"])
    for sample in found.iter_slices(1):
        subject, at = sample.row(0)[:2]
        own = rows.filter(pl.col("subject_id") == subject)
        known = built_of(path, own.filter((pl.col("time") > at) | anchors)).samples
        assert sample.equals(known.filter(pl.col("prediction_time") == at))


def died_in_hospital(history, subject, hours):
    """The label of a stay in a loop: what ends it first, if the next doesn't begin before."""
    later = sorted((h, code) for s, h, code in history if s == subject and h > hours)
    deaths = [h for h, code in later if code in ("MEDS_DEATH", "HOSPITAL_DISCHARGE//DIED")]
    ends = [h for h, code in later if code.startswith("HOSPITAL_DISCHARGE")] + deaths
    begins = [h for h, code in later if code == "HOSPITAL_ADMISSION//X"]
    if not ends or (begins and begins[0] < min(ends)):
        return None
    return bool(deaths) and min(deaths) <= min(ends)


@settings(max_examples=200)
@given(history=histories())
def test_mortality_is_what_a_loop_over_the_stay_says(events, base, history):
    shipped = SHIPPED[0].with_name("mortality.yaml")
    found = built_of(shipped, together(events, history)).samples
    for subject, at, label in found.iter_rows():
        hours = (at - base).total_seconds() / 3600
        assert label == died_in_hospital(history, subject, hours)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
@settings(max_examples=30)
@given(history=histories())
def test_the_flow_adds_up(events, path, history):
    built = built_of(path, together(events, history))
    flow, samples = built.flow, built.samples
    labelled = samples.drop_nulls(samples.columns)
    assert flow.count("anchor") == flow.count("left out") + flow.count("eligible")
    assert flow.count("eligible") == flow.count("no label") + flow.count("labelled")
    assert (flow.count("eligible"), flow.count("labelled")) == (samples.height, labelled.height)
    if "outcome" in flow.lines["stage"]:
        assert flow.count("outcome") == labelled.height
    subjects = dict(flow.lines.select("stage", "subjects").iter_rows())
    assert subjects["extract"] == 3
    assert subjects["eligible"] == samples["subject_id"].n_unique()
    assert subjects["labelled"] == labelled["subject_id"].n_unique()


# The keys that all share


def test_the_prediction_time_is_the_anchor_plus_the_hours_asked_for(events, base):
    builder = Mortality(anchor="WARD//.*", after_hours=24, unit_exit=None, stay_end="END")
    found = builder.build(events((1, "WARD//3"), (200, "END")), kind="binary").samples
    assert found["prediction_time"].to_list() == [base + timedelta(hours=25)]


def test_the_flow_names_codes_without_the_rest_that_is_left_open():
    assert spoken("ICU_ADMISSION(//.*)?") == spoken("ICU_ADMISSION//.*") == "ICU_ADMISSION"
    assert spoken("A|B") == "A|B"


def test_a_pattern_matches_whole_codes_only(events):
    assert Mortality().build(events((0, "X" + IN), (60, OUT)), kind="binary").samples.is_empty()


def test_the_first_anchor_is_chosen_before_anybody_is_left_out(events):
    rows = events((0, IN), (5, OUT), (100, IN), (200, OUT), (300, HOME))
    assert Mortality().build(rows, kind="binary").samples.height == 1
    built = Mortality(which="first").build(rows, kind="binary")
    assert built.samples.is_empty()
    said = dict(built.flow.lines.select("what", "samples").iter_rows())
    assert said["not the subject's first"] == 1
    assert said["left by the prediction time"] == 1


@pytest.mark.parametrize(
    ("require", "is_sample"),
    [
        ({"min_age_years": 10}, True),
        ({"min_age_years": 10.1}, False),
        ({"max_age_years": 10.1}, True),
        ({"max_age_years": 9.9}, False),
        ({"events": 3}, True),
        ({"events": 4}, True),
        ({"events": 5}, True),
        ({"events": 6}, False),
        ({"events": 2, "codes": ["LAB//.*"]}, True),
        ({"events": 3, "codes": ["LAB//.*"]}, False),
        ({"events": 1, "codes": ["LAB//.*"], "hours": 24}, True),
        ({"events": 2, "codes": ["LAB//.*"], "hours": 24}, False),
        ({"history_hours": 58}, True),
        ({"history_hours": 58.1}, False),
    ],
)
def test_who_is_known_too_little_is_left_out(events, require, is_sample):
    rows = events(
        (-10 * 365.25 * 24 + 48, "MEDS_BIRTH"),
        (-10, "CLINIC"),
        (0, IN),
        (10, "LAB//1"),
        (24, "LAB//1"),
        (48.5, "LAB//1"),  # after the prediction time
        (90, HOME),
    )
    builder = Mortality(require=Minimum.model_validate(require))
    assert builder.build(rows, kind="binary").samples.height == is_sample


def test_who_has_no_age_is_of_no_age(events):
    builder = Mortality(require=Minimum(min_age_years=18))
    assert builder.build(events((0, IN), (90, HOME)), kind="binary").samples.is_empty()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"builder": "mortalty"}, "did you mean mortality"),
        ({"builder": "phenotype"}, "codes"),
        ({"builder": "mortality", "after_hours": -1}, "after_hours"),
        ({"builder": "mortality", "anchor": "(("}, "no regular expression"),
        ({"builder": "mortality", "which": "last"}, "which"),
        ({"builder": "next_code", "codes": ["A"]}, "makes no labels of a binary task"),
    ],
)
def test_a_wrong_key_is_told_with_its_place(keys, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        builder_of(TaskConfig(kind="binary", **keys), where="tasks.t")
    assert str(error.value).startswith("tasks.t")
