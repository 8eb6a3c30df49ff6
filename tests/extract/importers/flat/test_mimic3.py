"""The shipped mapping of MIMIC-III on the real demo, against the source read by pandas."""

from clinical.cohort.labels import read_labels
from clinical.cohort.time_rule import TimeRule
from clinical.cohort.window import visible
from clinical.config import TaskConfig
from clinical.extract.importers.flat import import_flat
from clinical.extract.schema import Extract
from clinical.extract.validate import validate

import csv
import gzip
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

ROOT = Path(__file__).parents[4]
SOURCE = ROOT / ".." / "shared" / "data" / "mimic-iii-demo"
pytestmark = pytest.mark.shared_data("mimic-iii-demo")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    out = tmp_path_factory.mktemp("mimic3") / "extract"
    return out, import_flat(ROOT / "configs/importers/mimic3.yaml", SOURCE, out).counts


@pytest.fixture(scope="module")
def events(imported) -> pd.DataFrame:
    return pd.read_parquet(imported[0] / "data")


def raw(table: str, **options) -> pd.DataFrame:
    # "None" and "NA" are charted values.
    empty = {"keep_default_na": False, "na_values": [""]}
    return pd.read_csv(SOURCE / f"{table}.csv.gz", low_memory=False, **empty, **options)


def test_it_validates_without_a_finding(imported):
    assert validate(imported[0]).findings == ()


def test_every_record_of_every_table_is_accounted_for(imported):
    path, counts = imported
    rejects = pl.read_parquet(path / "import" / "rejects.parquet")
    tables = {words.partition(":")[0] for words in counts if words.endswith(": rows read")}
    assert len(tables) == 18
    for table in tables:
        with gzip.open(SOURCE / f"{table}.csv.gz", "rt", newline="") as file:
            n_records = sum(1 for _ in csv.reader(file)) - 1
        out = rejects.filter((pl.col("table") == table) & pl.col("row_left_out"))
        assert counts[f"{table}: rows read"] == n_records
        n_out = out.select("row").n_unique()
        assert counts[f"{table}: rows imported"] + n_out == n_records, table


def test_chart_events_are_those_of_the_source(events):
    chart = raw("chartevents")
    chart = chart[(chart.error != 1) & (chart.valuenum.notna() | chart.value.notna())]
    found = events[events.code.str.startswith("CHART//")]
    assert len(found) == len(chart)
    stored = pd.to_datetime(chart.storetime.fillna(chart.charttime))
    assert found.time.min() == stored.min()
    assert found.time.max() == stored.max()
    assert found.numeric_value.notna().sum() == chart.valuenum.notna().sum()
    total = chart.valuenum.astype("float32").astype("float64").sum()
    assert found.numeric_value.astype("float64").sum() == pytest.approx(total)
    by_item = found.code.str.split("//").str[1].astype(int).value_counts().sort_index()
    assert by_item.equals(chart.itemid.value_counts().sort_index().set_axis(by_item.index))


def test_lab_events_are_those_of_the_source(events):
    labs = raw("labevents")
    labs = labs[labs.valuenum.notna() | labs.value.notna()]
    found = events[events.code.str.startswith("LAB//")]
    assert len(found) == len(labs)
    patient = labs[labs.subject_id == 10006].sort_values(["charttime", "row_id"])
    of_patient = found[found.subject_id == 10006]
    assert of_patient.time.tolist() == pd.to_datetime(patient.charttime).tolist()
    glucose = found[(found.code == "LAB//50931//mg/dL") & (found.subject_id == 10006)]
    expected = patient[(patient.itemid == 50931) & patient.valuenum.notna()]
    assert glucose.numeric_value.tolist() == pytest.approx(expected.valuenum.tolist())


def test_deaths_and_births_are_those_of_the_source(events):
    patients = raw("patients", parse_dates=["dob", "dod"]).set_index("subject_id")
    deaths = events[events.code == "MEDS_DEATH"].set_index("subject_id").time.sort_index()
    known = patients.dod.dropna()
    assert deaths.dt.normalize().tolist() == known.sort_index().tolist()
    of_hospital = raw("admissions", parse_dates=["deathtime"]).dropna(subset="deathtime")
    of_hospital = of_hospital.set_index("subject_id").deathtime.sort_index()
    assert len(of_hospital) == 40
    assert deaths.loc[of_hospital.index].tolist() == of_hospital.tolist()
    births = events[events.code == "MEDS_BIRTH"].set_index("subject_id").time.sort_index()
    is_known = patients.dob.sort_index().dt.year > 2000
    assert births[is_known].tolist() == patients.dob.sort_index()[is_known].tolist()


def test_who_is_older_than_89_is_91_at_the_first_admission(events):
    births = events[events.code == "MEDS_BIRTH"].set_index("subject_id").time
    admitted = raw("admissions", parse_dates=["admittime"]).groupby("subject_id").admittime.min()
    hidden = raw("patients", parse_dates=["dob"]).set_index("subject_id").dob.dt.year < 2000
    age = (admitted - births).dt.days / 365.25
    assert hidden.sum() == 8
    assert age[hidden[hidden].index].round(1).eq(91.0).all()
    assert age.max() < 92


@pytest.mark.parametrize(("after_hours", "n_labels", "n_died"), [(48, 72, 26), (24, 110, 33)])
def test_labels_of_mortality_are_the_flags_of_the_source(imported, after_hours, n_labels, n_died):
    task = {"kind": "binary", "builder": "mortality", "after_hours": after_hours}
    task = TaskConfig.model_validate(task)
    labels = read_labels(Extract.open(imported[0]), "died", task).to_pandas()
    stays = raw("icustays", parse_dates=["intime"]).merge(
        raw("admissions")[["hadm_id", "hospital_expire_flag"]], on="hadm_id"
    )
    stays["prediction_time"] = stays.intime + pd.Timedelta(hours=after_hours)
    both = labels.merge(stays, on=["subject_id", "prediction_time"])
    assert (len(both), len(labels), labels["label.died"].sum()) == (n_labels, n_labels, n_died)
    assert (both["label.died"] == both.hospital_expire_flag).all()


def test_amounts_of_infusions_are_known_when_they_have_ended_and_were_stored(events):
    dates = ["starttime", "endtime", "storetime"]
    given = raw("inputevents_mv", parse_dates=dates)
    given = given[given.statusdescription != "Rewritten"]
    assert (given.storetime < given.endtime).sum() == 5779
    for code, value, when in (("INPUT", "amount", "endtime"), ("INPUT_RATE", "rate", "starttime")):
        rows = given[given[value].notna()]
        carevue = raw("inputevents_cv", parse_dates=["storetime", "charttime"]).dropna(subset=value)
        expected = pd.concat(
            [rows[["storetime", when]].max(axis=1), carevue.storetime.fillna(carevue.charttime)]
        )
        found = events[events.code.str.startswith(f"{code}//")]
        assert sorted(found.time) == sorted(expected)


def test_procedures_are_known_when_they_were_stored(events):
    rows = raw("procedureevents_mv", parse_dates=["starttime", "endtime", "storetime"])
    rows = rows[rows.statusdescription != "Rewritten"]
    for code, when in (("PROCEDURE_START", "starttime"), ("PROCEDURE_END", "endtime")):
        found = events[events.code.str.startswith(f"{code}//")]
        assert sorted(found.time) == sorted(rows[["storetime", when]].max(axis=1))


def test_codes_for_billing_are_visible_to_no_sample_at_discharge(imported):
    samples = TimeRule.parse("HOSPITAL_DISCHARGE").samples(Extract.open(imported[0]))
    assert samples.height == 129
    billed = pl.read_parquet(imported[0] / "data" / "*.parquet").filter(
        pl.col("code").str.contains("^(DIAGNOSIS|PROCEDURE|DRG|CPT)//")
    )
    billed = billed.with_row_index("event").with_columns(modality=pl.lit("codes"))
    seen = visible(billed, samples.with_row_index("sample"), {"codes": None})
    assert seen["hours"].min() > 0
    assert 0 < seen["sample"].n_unique() < 60  # those of earlier stays


def test_diagnoses_are_placed_a_week_after_discharge_with_their_titles(imported, events):
    stays = raw("admissions", parse_dates=["dischtime"]).set_index("hadm_id")
    diagnoses = raw("diagnoses_icd", dtype={"icd9_code": str})
    found = events[events.code.str.startswith("DIAGNOSIS//")]
    times = stays.loc[diagnoses.hadm_id].dischtime + pd.Timedelta(days=7)
    assert sorted(found.time) == sorted(times)
    codes = pd.read_parquet(imported[0] / "metadata" / "codes.parquet").set_index("code")
    assert codes.loc["DIAGNOSIS//ICD9CM//99591"].description == "Sepsis"
    assert list(codes.loc["DIAGNOSIS//ICD9CM//99591"].parent_codes) == ["ICD9CM/99591"]
