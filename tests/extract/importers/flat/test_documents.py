"""docs/bring_your_own.md: its mappings do what it says."""

from clinical.extract.importers.flat import import_flat
from clinical.extract.importers.flat.mapping import MappingConfig
from clinical.extract.validate import validate

import re
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

PAGE = (Path(__file__).parents[4] / "docs" / "bring_your_own.md").read_text()
WIDE, LONG = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
WIDE_TABLE = re.search(r"```\n(HR\|.*?)```", PAGE, flags=re.DOTALL)[1]


@pytest.fixture
def sepsis(source, tmp_path):
    (source / "training").mkdir()
    for patient in range(1, 41):
        (source / "training" / f"p{patient:06}.psv").write_text(WIDE_TABLE)
    (tmp_path / "mapping.yaml").write_text(WIDE)
    report = import_flat(tmp_path / "mapping.yaml", source, tmp_path / "out")
    return tmp_path / "out", report


def test_the_wide_case_takes_under_thirty_lines():
    assert len(WIDE.splitlines()) < 30


def test_the_wide_case_becomes_a_valid_extract_with_labels(sepsis):
    path, report = sepsis
    assert validate(path).findings == ()
    events = pl.read_parquet(path / "data" / "*.parquet").filter(pl.col("subject_id") == 7)
    birth = events.filter(pl.col("code") == "MEDS_BIRTH")["time"].item()
    assert birth.year == 1916
    numbers = events.filter(pl.col("numeric_value").is_not_null())
    assert sorted(numbers.select("time", "code", "numeric_value").rows()) == [
        (datetime(2000, 1, 1, 1), "HR", 97.0),
        (datetime(2000, 1, 1, 1), "MAP", pytest.approx(75.33)),
        (datetime(2000, 1, 1, 2), "HR", 89.0),
        (datetime(2000, 1, 1, 2), "Lactate", pytest.approx(2.1)),
        (datetime(2000, 1, 1, 2), "MAP", 86.0),
        (datetime(2000, 1, 1, 2), "Temp", pytest.approx(36.11)),
    ]
    static = events.filter(pl.col("time").is_null())
    assert static["code"].to_list() == ["GENDER//F"]
    labels = pl.read_parquet(path / "tasks" / "sepsis" / "0.parquet")
    assert labels.filter(pl.col("subject_id") == 7)["boolean_value"].to_list() == [False, True]
    assert (report.counts["hours: rows read"], report.counts["hours: rows imported"]) == (80, 80)


def test_the_long_case_is_a_valid_mapping_and_converts_its_units(source, tmp_path):
    (source / "items.csv").write_text("item_id,label,loinc\n1,Albumin,1751-7\n")
    (source / "stays.csv").write_text("stay_id,patient_id,admitted\n5,77,03.01.2020 08:00\n")
    header = "stay_id;item_id;validated;minutes_in;result;unit_text;status\n"
    rows = "5;1;03.01.2020 09:30;;41,5;g/L;ok\n5;1;;30;trüb;;ok\n5;1;;;1;g/L;cancelled\n"
    (source / "labs.csv").write_text(header + rows, encoding="latin-1")
    (tmp_path / "mapping.yaml").write_text(LONG.replace("{unit}", "{unit}"))
    report = import_flat(tmp_path / "mapping.yaml", source, tmp_path / "out")
    events = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    assert events.select("subject_id", "time", "code", "numeric_value").rows() == [
        (77, datetime(2020, 1, 3, 9, 30), "LAB//1//g/dL", pytest.approx(4.15)),
    ]
    assert report.counts["labs: rows left out, a cell of the code is empty"] == 1


def test_every_key_of_the_mapping_is_explained():
    from clinical.extract.importers.flat import keys, mapping

    parts = [MappingConfig, mapping.Table, mapping.EventRule, mapping.UnitRule, keys.TimeRule]
    for part in [*parts, keys.Condition, mapping.LabelRule, mapping.Lookup]:
        for key in part.model_fields:
            if key not in ("among",):
                assert re.search(rf"[`{{(, ]{key}[`:,}} ]", PAGE), (part.__name__, key)
