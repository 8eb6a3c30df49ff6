"""The shipped mappings of MIMIC-IV and eICU, on small files with the headers of the sources."""

from clinical.extract.importers.flat import import_flat
from clinical.extract.validate import validate

import importlib.util
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

MAPPINGS = Path(__file__).parents[4] / "configs" / "importers"
_spec = importlib.util.spec_from_file_location(
    "small_sources", Path(__file__).with_name("small_sources.py")
)
small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(small)


def run(name, source, out):
    report = import_flat(MAPPINGS / f"{name}.yaml", source, out)
    return Imported(out, pl.read_parquet(out / "data" / "*.parquet"), report.counts)


@dataclass(frozen=True)
class Imported:
    path: Path
    events: pl.DataFrame
    counts: dict[str, int]

    def times(self, subject=None):
        """The time of each code and value."""
        chosen = pl.lit(True) if subject is None else pl.col("subject_id") == subject
        rows = self.events.filter(chosen).select("time", "code", "numeric_value").rows()
        return {(code, value): time for time, code, value in rows}

    def table(self, name):
        return pl.read_parquet(self.path / "metadata" / f"{name}.parquet")


@pytest.fixture(scope="module")
def mimic4(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mimic4")
    small.write_source(folder / "source", small.MIMIC_IV)
    image = folder / "source/cxr/files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg"
    image.parent.mkdir(parents=True)
    Image.new("L", (8, 8)).save(image)
    return run("mimic4", folder / "source", folder / "out")


@pytest.fixture(scope="module")
def eicu(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eicu")
    small.write_source(folder / "source", small.EICU)
    return run("eicu", folder / "source", folder / "out")


def test_mimic_iv_becomes_a_valid_extract(mimic4):
    assert validate(mimic4.path).findings == ()


def test_every_table_of_mimic_iv_gives_events(mimic4):
    tables = {words: n for words, n in mimic4.counts.items() if words.endswith(": events")}
    assert len(tables) == len(small.MIMIC_IV) - 4  # the dictionaries
    assert min(tables.values()) > 0


@pytest.mark.parametrize(
    ("code", "value", "time"),
    [
        ("GENDER//F", None, None),
        ("MEDS_BIRTH", None, datetime(2128, 1, 1)),
        ("MEDS_DEATH", None, datetime(2180, 9, 9, 23, 59, 59)),
        ("HOSPITAL_ADMISSION//URGENT//TRANSFER FROM HOSPITAL", None, datetime(2180, 5, 6, 22, 23)),
        ("HOSPITAL_DISCHARGE//HOME", None, datetime(2180, 5, 7, 17, 15)),
        ("LAB//50868//mEq/L", 19.0, datetime(2180, 5, 6, 22, 5)),
        ("LAB//51519//NEG", None, datetime(2180, 5, 6, 21)),
        ("OMR//Blood Pressure", 110.0, datetime(2180, 4, 27, 23, 59, 59)),
        ("OMR//Blood Pressure//diastolic", 65.0, datetime(2180, 4, 27, 23, 59, 59)),
        ("OMR//Weight (Lbs)", 94.0, datetime(2180, 4, 27, 23, 59, 59)),
        ("MICRO_SPECIMEN//URINE", None, datetime(2180, 5, 6, 23)),
        ("MICRO_ORGANISM//ENTEROCOCCUS SP.", None, datetime(2180, 5, 8, 23, 59, 59)),
        # A week after the discharge on May 7th.
        ("DIAGNOSIS//ICD9CM//5723", None, datetime(2180, 5, 14, 17, 15)),
        ("PROCEDURE//ICD9Proc//5491", None, datetime(2180, 5, 14, 17, 15)),
        ("DRG//HCFA//442", None, datetime(2180, 5, 14, 17, 15)),
        ("HCPCS//99218", None, datetime(2180, 5, 14, 17, 15)),
        ("CHART//220045//bpm", 91.0, datetime(2180, 7, 23, 14, 17)),
        ("CHART//220048//SR (Sinus Rhythm)", None, datetime(2180, 7, 23, 14, 18)),
        # Begun at 17:00, stored at 18:56, ended at 20:30.
        ("INPUT//226452//mL", 200.0, datetime(2180, 7, 23, 20, 30)),
        ("INPUT_RATE//226452//mL/hour", 57.0, datetime(2180, 7, 23, 18, 56)),
        # From 14:43 to 14:44, stored at 15:10.
        ("PROCEDURE_START//225966", None, datetime(2180, 7, 23, 15, 10)),
        ("PROCEDURE_END//225966", None, datetime(2180, 7, 23, 15, 10)),
        ("NOTE//DS", None, datetime(2180, 5, 9, 15, 26)),
        ("NOTE//AD", None, datetime(2180, 5, 7, 23, 59, 59)),
        ("ED//heartrate", 70.0, datetime(2180, 5, 6, 19, 17)),
        ("ED_DIAGNOSIS//ICD9CM//78959", None, datetime(2180, 5, 13, 23, 30)),
        ("IMAGE//CXR//PA", None, datetime(2180, 5, 6, 8, 5, 56, 875_000)),
    ],
)
def test_an_event_of_mimic_iv_has_its_time_and_value(mimic4, code, value, time):
    assert mimic4.times()[code, value] == time


def test_what_mimic_iv_rewrote_or_lacks_is_left_out_and_counted(mimic4):
    frame, counts = mimic4.events, mimic4.counts
    assert 9.0 not in frame["numeric_value"].to_list()
    assert counts["inputevents: rows left out, left out by where"] == 1
    assert counts["images: rows left out, no such image"] == 1
    assert frame["image_path"].drop_nulls().len() == 1


def test_codes_of_mimic_iv_say_what_they_are(mimic4):
    said = {row["code"]: row for row in mimic4.table("codes").iter_rows(named=True)}
    assert said["DIAGNOSIS//ICD9CM//5723"]["description"] == "Portal hypertension"
    assert said["DIAGNOSIS//ICD9CM//5723"]["parent_codes"] == ["ICD9CM/5723"]
    assert said["CHART//220045//bpm"]["description"] == "Heart Rate"
    assert said["CHART//220045//bpm"]["unit"] == "bpm"


def test_a_part_of_mimic_iv_is_imported_and_the_absent_tables_are_told(source, tmp_path):
    part = {name: table for name, table in small.MIMIC_IV.items() if name.startswith("hosp/")}
    del part["hosp/d_icd_diagnoses.csv"]
    small.write_source(source, part)
    made = run("mimic4", source, tmp_path / "out")
    (tables,) = (words for words in made.counts if words.startswith("tables not in the source"))
    assert "chartevents" in tables
    assert "labevents" not in tables
    assert made.counts["lookups not in the source: items, diagnoses, ed_stays"] == 3
    assert "DIAGNOSIS//ICD9CM//5723" in made.events["code"].to_list()


def test_eicu_becomes_a_valid_extract(eicu):
    assert validate(eicu.path).findings == ()
    tables = {words: n for words, n in eicu.counts.items() if words.endswith(": events")}
    assert len(tables) == 15
    assert min(tables.values()) > 0


@pytest.mark.parametrize(
    ("code", "value", "time"),
    [
        # The first unit is entered 60 minutes after admission, the second 480.
        ("MEDS_BIRTH", None, datetime(1910, 1, 1)),
        ("HOSPITAL_ADMISSION//UNKNOWN", None, datetime(2000, 1, 1)),
        ("ICU_ADMISSION//CTICU", None, datetime(2000, 1, 1, 1)),
        ("ICU_ADMISSION//MICU", None, datetime(2000, 1, 1, 8)),
        ("MEDS_DEATH", None, datetime(2000, 1, 1, 11)),
        ("LAB//sodium//mmol/L", 139.0, datetime(2000, 1, 1, 1, 10)),
        ("VITAL//heartrate", 88.0, datetime(2000, 1, 1, 8, 5)),
        ("VITAL//noninvasivemean", 70.0, datetime(2000, 1, 1, 1, 5)),
        ("NURSE//Pain Score//Value", 4.0, datetime(2000, 1, 1, 1, 3)),
        ("NURSE//Heart Rhythm//Value//NSR", None, datetime(2000, 1, 1, 1, 3)),
        ("HOSPITAL_DISCHARGE//DIED", None, datetime(2000, 1, 1, 11)),
        # To begin at minute 9, ordered at minute 25; the other ordered ahead, and cancelled later.
        ("DRUG//HEPARIN//IV", None, datetime(2000, 1, 1, 1, 25)),
        ("DRUG//ASPIRIN", None, datetime(2000, 1, 1, 1, 9)),
        ("DIAGNOSIS//ICD//038.9", None, datetime(2000, 1, 1, 1, 9)),
        ("DIAGNOSIS//ICD//A41.9", None, datetime(2000, 1, 1, 1, 9)),
        ("DIAGNOSIS//renal|oliguria", None, datetime(2000, 1, 1, 1, 9)),
        ("MICRO_SPECIMEN//Blood", None, datetime(2000, 1, 1, 1)),
        ("MICRO_ORGANISM//Escherichia coli", None, datetime(2000, 1, 4, 1)),
    ],
)
def test_an_event_of_eicu_has_its_time_and_value(eicu, code, value, time):
    assert eicu.times(subject=129391)[code, value] == time


def test_admissions_of_one_person_in_eicu_are_in_one_split(eicu):
    splits = eicu.table("subject_splits")
    assert splits.height == 2
    assert splits["split"].n_unique() == 1


def test_a_stay_that_eicu_does_not_know_is_left_out(eicu):
    assert eicu.counts["lab: rows left out, no subject"] == 1


def test_an_admission_in_eicu_is_told_once_whichever_of_its_units_is_there(source, tmp_path):
    header, rows = small.EICU["patient.csv"]
    second = [row for row in rows if row["unitvisitnumber"] == 2]
    part = {"patient.csv": (header, [*second, {**second[0], "patientunitstayid": 7}])}
    small.write_source(source, part)
    events = run("eicu", source, tmp_path / "out").events
    told = events.filter(pl.col("code").str.contains("^(HOSPITAL_|MEDS_DEATH)"))
    assert told.select("time", "code").rows() == [
        (datetime(2000, 1, 1), "HOSPITAL_ADMISSION//UNKNOWN"),
        (datetime(2000, 1, 1, 11), "HOSPITAL_DISCHARGE//DIED"),
        (datetime(2000, 1, 1, 11), "MEDS_DEATH"),
    ]


def test_a_death_in_hospital_of_mimic_iv_is_a_label_and_has_its_minute(source, tmp_path):
    part = dict(small.MIMIC_IV)
    header, (row,) = part["hosp/admissions.csv"]
    died = {"dischtime": "2180-09-09 15:00:00", "deathtime": "2180-09-09 14:30:00"}
    row = {**row, **died, "discharge_location": "", "hospital_expire_flag": 1}
    part["hosp/admissions.csv"] = (header, [row])
    small.write_source(source, part)
    made = run("mimic4", source, tmp_path / "out")
    assert made.times()["MEDS_DEATH", None] == datetime(2180, 9, 9, 14, 30)
    assert made.events.filter(pl.col("code") == "MEDS_DEATH").height == 1
    assert made.times()["HOSPITAL_DISCHARGE//DIED", None] == datetime(2180, 9, 9, 15)
    # The registry knows the day alone, and is passed over.
    assert made.counts["births, deaths and others of which the first counts, after it"] == 1
