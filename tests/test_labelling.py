"""Labels of a task: held against a few lines of pandas on real tables, written whole or not."""

import clinical
from clinical import cli
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.labelling import build_cohort

from pathlib import Path

import pandas as pd
import polars as pl
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / ".." / "shared" / "data" / "mimic-iii-demo"
TASKS = ROOT / "configs" / "tasks"
KEYS = ["subject_id", "prediction_time"]


def lines(cohort):
    table = cohort.flow.table
    return dict(zip(table["what"], table["samples"], strict=True))


# Real tables


@pytest.fixture(scope="module")
def mimic3(tmp_path_factory):
    from clinical.extract.importers.flat import import_flat

    out = tmp_path_factory.mktemp("mimic3") / "extract"
    kept = ("patients", "admissions", "icustays", "diagnoses_icd")
    mapping = ROOT / "configs" / "importers" / "mimic3.yaml"
    tables = yaml.safe_load(mapping.read_text())["tables"]
    import_flat(mapping, SOURCE, out, [f"tables.{t}=null" for t in tables if t not in kept])
    return out


@pytest.fixture(scope="module")
def source():
    def read(name, *times):
        return pd.read_csv(SOURCE / f"{name}.csv.gz", parse_dates=list(times))

    stays = read("icustays", "intime", "outtime")
    admissions = read("admissions", "admittime", "dischtime", "deathtime")
    return stays.merge(admissions, on=["subject_id", "hadm_id"]).merge(
        read("patients", "dob", "dod"), on="subject_id"
    )


@pytest.mark.shared_data("mimic-iii-demo")
def test_mortality_is_what_the_tables_of_mimic3_say(mimic3, source):
    at = source["intime"] + pd.Timedelta(hours=48)
    stays = source.assign(prediction_time=at)[(source["outtime"] > at) & (source["dischtime"] > at)]
    adults = stays[(stays["prediction_time"].dt.year - stays["dob"].dt.year) > 18]
    cohort = build_cohort(mimic3, TASKS / "mortality.yaml", ["require.events=0"])
    truth = adults.set_index(KEYS)["hospital_expire_flag"].astype(bool).sort_index()
    found = cohort.labels.set_index(KEYS)["boolean_value"]
    pd.testing.assert_series_equal(found, truth, check_names=False, check_index_type=False)
    assert lines(cohort)["events ICU_ADMISSION"] == len(source)
    gone = [lines(cohort)[f"{how} by the prediction time"] for how in ("died", "left")]
    assert sum(gone) == len(source) - len(stays)
    assert lines(cohort)["of another age, or age unknown"] == len(stays) - len(adults)


@pytest.mark.shared_data("mimic-iii-demo")
def test_the_length_of_stay_is_what_the_tables_of_mimic3_say(mimic3, source):
    at = source["intime"] + pd.Timedelta(hours=24)
    end = source[["outtime", "dischtime"]].min(axis=1)
    stays = source.assign(prediction_time=at, days=(end - source["intime"]) / pd.Timedelta(days=1))
    truth = stays[end > at].set_index(KEYS)["days"].sort_index()
    cohort = build_cohort(mimic3, TASKS / "length_of_stay.yaml", ["require={}"])
    found = cohort.labels.set_index(KEYS)["float_value"]
    pd.testing.assert_series_equal(
        found.astype(float), truth, check_names=False, check_index_type=False, rtol=1e-6
    )


@pytest.mark.shared_data("mimic-iii-demo")
def test_readmissions_are_what_the_tables_of_mimic3_say(mimic3, source):
    stays = source.drop_duplicates("hadm_id").sort_values(["subject_id", "admittime"])
    until = stays.groupby("subject_id")["admittime"].shift(-1) - stays["dischtime"]
    alive = stays["hospital_expire_flag"] == 0
    cohort = build_cohort(mimic3, TASKS / "readmission.yaml", ["require={}", "gap_hours=0"])
    assert len(cohort.labels) == alive.sum()
    back = (until[alive] > pd.Timedelta(0)) & (until[alive] <= pd.Timedelta(days=30))
    assert cohort.labels["boolean_value"].sum() == back.sum()
    assert lines(cohort)["died by the prediction time"] == (~alive).sum()


@pytest.mark.shared_data("mimic-iii-demo")
def test_a_phenotype_is_what_the_diagnoses_of_mimic3_say(mimic3, source):
    codes = pd.read_csv(SOURCE / "diagnoses_icd.csv.gz", dtype={"icd9_code": str})
    sick = codes[codes["icd9_code"].fillna("").str.startswith("584")]["hadm_id"]
    at = source["intime"] + pd.Timedelta(hours=24)
    end = source[["outtime", "dischtime"]].min(axis=1)
    stays = source.assign(prediction_time=at)[end > at]
    truth = stays.set_index(KEYS)["hadm_id"].isin(sick).sort_index()
    cohort = build_cohort(mimic3, TASKS / "phenotype.yaml", ["require={}"])
    found = cohort.labels.set_index(KEYS)["boolean_value"]
    pd.testing.assert_series_equal(found, truth, check_names=False, check_index_type=False)


# What is written


@pytest.fixture
def task(tmp_path):
    """The synthetic hospital's own question, asked of its events."""
    path = tmp_path / "died.yaml"
    path.write_text("{kind: binary, builder: mortality}")
    return path


def test_the_command_writes_labels_and_shows_the_flow(command, hospital, task, tmp_path):
    code, out, err = command(
        "cohort", task, hospital, "--out", tmp_path / "labels", "--samples", tmp_path / "s.parquet"
    )
    assert code == cli.DONE, err
    made = clinical.build_cohort(hospital, task)
    for what, n_samples in lines(made).items():
        (line,) = [line for line in out.splitlines() if line.strip(" –").startswith(f"{what}  ")]
        assert pd.isna(n_samples) or f"{n_samples:,}" in line.split()
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == [
        "0.parquet",
        "flow.csv",
        "flow.svg",
        "task.yaml",
    ]
    labels = Extract.open(hospital).labels(tmp_path / "labels")
    for column in (*KEYS, "boolean_value"):
        assert labels[column].to_list() == made.labels[column].to_list()
    assert pl.read_csv(tmp_path / "labels" / "flow.csv").height == len(made.flow.table)
    assert "labels of" in (tmp_path / "labels" / "flow.svg").read_text()
    assert pl.read_parquet(tmp_path / "s.parquet").height == len(made.samples) >= labels.height


def test_the_task_that_is_written_down_makes_the_same_labels(hospital, task, tmp_path):
    first = build_cohort(hospital, task, ["after_hours=24"], out=tmp_path / "labels")
    again = build_cohort(hospital, tmp_path / "labels" / "task.yaml")
    assert again.definition == first.definition
    pd.testing.assert_frame_equal(again.labels, first.labels)


def test_the_events_of_the_hospital_say_what_its_labels_say(hospital, task):
    given = Extract.open(hospital).labels(Path("tasks/in_hospital_mortality"))
    found = build_cohort(hospital, task).labels.merge(given.to_pandas(), on=KEYS)
    assert len(found) == given.height
    assert (found["boolean_value_x"] == found["boolean_value_y"]).all()


# A user's mistakes


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["anchr=X"], "anchr: unknown key; did you mean anchor"),
        (["require.min_age=3"], "require.min_age: unknown key"),
        (["builder=null"], "give either labels"),
        (["builder=null", "labels=a"], "builder: is required"),
        (["kind=regression"], "regression needs unit"),
        (["kind=multiclass"], "makes no labels of a multiclass task"),
        (["anchor=WARD//.*"], r"has no events WARD; see metadata/codes\.parquet"),
        (["after_hours=90000"], "none of .* gets a label: .* by the prediction time"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(hospital, task, tmp_path, overrides, problem):
    out = tmp_path / "labels"
    with pytest.raises((ConfigError, SchemaError), match=problem):
        build_cohort(hospital, task, overrides, out=out, samples=tmp_path / "s.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["died.yaml"]


def test_labels_that_are_there_stay_as_they_are(hospital, task, tmp_path):
    build_cohort(hospital, task, out=tmp_path / "labels")
    with pytest.raises(ConfigError, match="exists and is not empty"):
        build_cohort(hospital, task, ["after_hours=24"], out=tmp_path / "labels")
    (tmp_path / "s.parquet").touch()
    with pytest.raises(ConfigError, match="is there already"):
        build_cohort(hospital, task, samples=tmp_path / "s.parquet")


def test_a_task_that_is_not_shipped_is_told_with_those_that_are(hospital):
    with pytest.raises(ConfigError, match=r"there is no such task; shipped are .*mortality"):
        build_cohort(hospital, "mortalty")
    with pytest.raises(ConfigError, match="there is no such file; check the path"):
        build_cohort(hospital, "mine.yaml")


def test_a_shipped_task_is_known_by_name(hospital):
    assert build_cohort(hospital, "mortality", ["require={}"]).name == "mortality"
