"""Tasks of ACES: what es-aces makes of them, where it is installed (it holds polars below 2)."""

import clinical  # noqa: F401
from clinical.cohort.tasks.aces import CONTRADICT, build_aces, is_aces
from clinical.cohort.window import is_visible_from
from clinical.errors import ConfigError, LeakageError, SchemaError
from clinical.extract.schema import Extract
from clinical.labelling import build_cohort

import importlib.util
from datetime import datetime, timedelta

import pandas as pd
import polars as pl
import pytest
import yaml

KEYS = ["subject_id", "prediction_time"]
HAS_ACES = importlib.util.find_spec("aces") is not None
needs_aces = pytest.mark.skipif(
    not HAS_ACES, reason="es-aces holds polars below 2: make test-lowest installs it and runs this"
)

TASK = {
    "predicates": {
        "admission": {"code": {"regex": "ICU_ADMISSION.*"}},
        "discharge": {"code": {"regex": "HOSPITAL_DISCHARGE.*"}},
        "death": {"code": {"regex": "MEDS_DEATH|HOSPITAL_DISCHARGE//DIED"}},
        "left": {"expr": "or(discharge, death)"},
    },
    "trigger": "admission",
    "windows": {
        "input": {
            "start": None,
            "end": "trigger + 48h",
            "start_inclusive": True,
            "end_inclusive": True,
            "index_timestamp": "end",
        },
        "waiting": {
            "start": "trigger",
            "end": "start + 48h",
            "start_inclusive": False,
            "end_inclusive": True,
            "has": {"left": "(None, 0)"},
        },
        "target": {
            "start": "input.end",
            "end": "start -> left",
            "start_inclusive": False,
            "end_inclusive": True,
            "label": "death",
        },
    },
}


@pytest.fixture
def task(tmp_path):
    def write(**windows):
        changed = {
            name: {**keys, **windows.get(name, {})} for name, keys in TASK["windows"].items()
        }
        path = tmp_path / "died.yaml"
        path.write_text(yaml.safe_dump({**TASK, "windows": changed}, sort_keys=False))
        return path

    return write


@pytest.mark.skipif(HAS_ACES, reason="es-aces is installed")
def test_without_es_aces_its_task_is_told_how_to_be_asked(hospital, task, tmp_path):
    with pytest.raises(ConfigError, match=r"needs es-aces, .* install 'clinical\[aces\]'"):
        build_cohort(hospital, task(), out=tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


def test_a_task_of_aces_is_known_by_its_keys():
    assert is_aces(TASK)
    assert not is_aces({"kind": "binary", "builder": "mortality"})


def test_a_window_that_begins_by_the_prediction_time_shows_something_visible():
    now = datetime(2150, 1, 1)
    times = [now - timedelta(hours=1), now, now + timedelta(hours=1), None]
    rows = pl.DataFrame({"time": times, "prediction_time": [now] * 4})
    found = rows.select(
        closed=is_visible_from(inclusive=True), open=is_visible_from(inclusive=False)
    )
    assert found["closed"].to_list() == [True, True, False, True]
    assert found["open"].to_list() == [True, False, False, True]


@needs_aces
def test_aces_and_the_built_in_task_make_the_same_labels(hospital, task, tmp_path):
    ours = tmp_path / "ours.yaml"
    ours.write_text("{kind: binary, builder: mortality, unit_exit: null}")
    expected = build_cohort(hospital, ours)
    found = build_cohort(hospital, task(), out=tmp_path / "labels")
    assert len(found.labels) > 50
    pd.testing.assert_frame_equal(found.labels, expected.labels)
    table = dict(zip(found.flow.table["what"], found.flow.table["samples"], strict=True))
    assert table["events admission"] == expected.flow.count("anchor")
    assert table["outside the windows of the task"] == expected.flow.count("left out")
    labels = Extract.open(hospital).labels(tmp_path / "labels")
    assert labels["boolean_value"].to_list() == found.labels["boolean_value"].to_list()
    assert yaml.safe_load((tmp_path / "labels" / "task.yaml").read_text()) == yaml.safe_load(
        task().read_text()
    )


@needs_aces
@pytest.mark.parametrize(
    "target", [{"start": "trigger"}, {"start": "input.end", "start_inclusive": True}]
)
def test_a_label_of_what_is_visible_is_refused(hospital, task, target):
    with pytest.raises(LeakageError, match="the window target begins before the prediction time"):
        build_cohort(hospital, task(target=target))


@needs_aces
@pytest.mark.parametrize(
    ("windows", "problem"),
    [
        ({"target": {"label": None}}, "no window has a label"),
        ({"input": {"index_timestamp": None}}, "no window has a index_timestamp"),
        ({"target": {"start": "nowhere.end"}}, "is no task of ACES"),
    ],
)
def test_a_wrong_task_is_told(hospital, task, windows, problem):
    with pytest.raises(ConfigError, match=problem):
        build_cohort(hospital, task(**windows))


@needs_aces
def test_a_task_of_aces_takes_no_overrides(hospital, task):
    with pytest.raises(ConfigError, match="takes no key=value"):
        build_cohort(hospital, task(), ["after_hours=24"])


@needs_aces
def test_an_extract_without_the_trigger_has_no_sample(hospital, task):
    path = task()
    path.write_text(path.read_text().replace("ICU_ADMISSION", "WARD_ADMISSION"))
    assert build_aces(Extract.open(hospital), path).samples.is_empty()
    with pytest.raises(SchemaError, match="the extract has no events admission"):
        build_cohort(hospital, path)


@needs_aces
def test_windows_of_one_prediction_time_that_contradict_give_no_label(tmp_path, task):
    base = datetime(2150, 1, 1)
    rows = [(1, 0, "ICU_ADMISSION"), (1, 1, "ICU_ADMISSION"), (1, 90, "MEDS_DEATH")]
    (tmp_path / "extract" / "data").mkdir(parents=True)
    pl.DataFrame(
        {
            "subject_id": [row[0] for row in rows],
            "time": [base + timedelta(hours=row[1]) for row in rows],
            "code": [row[2] for row in rows],
            "numeric_value": [None] * 3,
        },
        schema_overrides={"time": pl.Datetime("us"), "numeric_value": pl.Float32},
    ).write_parquet(tmp_path / "extract" / "data" / "0.parquet")
    # Predict at the death itself, whatever comes before: two admissions have one prediction time.
    windows = {
        "input": {"start": "trigger", "end": "start -> death", "start_inclusive": False},
        "waiting": {"has": {}},
        "target": {"start": "input.end", "end": "start + 48h"},
    }
    built = build_aces(Extract.open(tmp_path / "extract"), task(**windows))
    assert built.samples.height == 1
    assert CONTRADICT in built.flow.lines["what"].to_list()
    assert built.flow.count("left out") == 1
