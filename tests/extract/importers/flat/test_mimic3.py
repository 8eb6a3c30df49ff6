"""The shipped mapping of MIMIC-III on the real demo, against the source read by pandas."""

from clinical.extract.importers.flat import import_flat
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
    deaths = events[events.code == "MEDS_DEATH"].set_index("subject_id").time
    known = patients.dod.dropna()
    assert deaths.dt.normalize().sort_index().tolist() == known.sort_index().tolist()
    births = events[events.code == "MEDS_BIRTH"].set_index("subject_id").time
    assert births.sort_index().tolist() == patients.dob.sort_index().tolist()


def test_diagnoses_are_placed_at_discharge_with_their_titles(imported, events):
    stays = raw("admissions", parse_dates=["dischtime"]).set_index("hadm_id")
    diagnoses = raw("diagnoses_icd", dtype={"icd9_code": str})
    found = events[events.code.str.startswith("DIAGNOSIS//")]
    times = stays.loc[diagnoses.hadm_id].dischtime
    assert sorted(found.time) == sorted(times)
    codes = pd.read_parquet(imported[0] / "metadata" / "codes.parquet").set_index("code")
    assert codes.loc["DIAGNOSIS//ICD9CM//99591"].description == "Sepsis"
    assert list(codes.loc["DIAGNOSIS//ICD9CM//99591"].parent_codes) == ["ICD9CM/99591"]
