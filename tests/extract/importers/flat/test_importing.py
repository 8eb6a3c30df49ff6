"""What becomes of the rows of tables, from their files to a valid extract."""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.importers.flat import import_flat
from clinical.extract.importers.flat.images import ImageFolder
from clinical.extract.validate import validate

import gzip
import os
import shutil
import stat
from datetime import datetime

import numpy as np
import polars as pl
import pytest
import yaml

LONG = "subject_id,time,item,value,unit\n"
RULE = {"files": "t.csv", "time": "time", "events": [{"code": "{item}", "value": "value"}]}


def at(day, hour=0, minute=0, second=0):
    return datetime(2020, 1, day, hour, minute, second)


def test_rows_become_events_in_the_order_of_subject_and_time(source, import_tables):
    (source / "t.csv").write_text(
        LONG + "2,2020-01-03 10:00:00,HR,80,\n1,2020-01-02,HR,70,\n1,2020-01-01 01:00:00,pH,7.4,\n"
    )
    made = import_tables({"t": RULE})
    assert made.rows("subject_id", "time", "code", "numeric_value") == [
        (1, at(1, 1), "pH", pytest.approx(7.4)),
        (1, at(2, 23, 59, 59), "HR", 70.0),
        (2, at(3, 10), "HR", 80.0),
    ]
    assert made.counts["t: dates without a time, placed at the day's end"] == 1
    made.check_balance("t")


def test_every_row_is_imported_or_listed_with_its_place_and_reason(source, import_tables):
    (source / "t.csv").write_text(
        LONG
        + "1,2020-01-01,HR,80,\n"  # 1
        + "1,2020-01-01,HR,high,\n"  # 2
        + ",2020-01-01,HR,80,\n"  # 3
        + "1,2020-01-01\n"  # 4
        + "x7,2020-01-01,HR,80,\n"  # 5
        + "1,yesterday,HR,80,\n"  # 6
        + "1,,HR,80,\n"  # 7
        + "1,2020-01-01,,80,\n"  # 8
        + "1,2020-01-01,HR,,\n"  # 9
        + "1,2020-01-01,HR,1e39,\n"  # 10
        + "1,2020-01-01,HR,-3,\n"  # 11
        + "1,2020-01-01T10:00:00Z,HR,80,\n"  # 12
        + "1,2020-01-01,HR,81,,extra\n"  # 13
        + "1,2020-01-01,HR,82,\n"  # 14
    )
    made = import_tables({"t": RULE})
    assert made.rows("numeric_value") == [(80.0,), (82.0,)]
    assert made.rejects.sort("row").select("file", "row", "reason").rows() == [
        ("t.csv", 2, "the value is no number"),
        ("t.csv", 3, "no subject"),
        ("t.csv", 4, "more or fewer cells than the header"),
        ("t.csv", 5, "the subject is no whole number"),
        ("t.csv", 6, "the time is in none of the formats"),
        ("t.csv", 7, "no time"),
        ("t.csv", 8, "a cell of the code is empty"),
        ("t.csv", 9, "nothing measured or said"),
        ("t.csv", 10, "the value is too large or too small for 32 bits"),
        ("t.csv", 11, "the value is outside the plausible range"),
        ("t.csv", 12, "the time has a zone, and the mapping no time_zone"),
        ("t.csv", 13, "more or fewer cells than the header"),
    ]
    assert (made.counts["t: rows read"], made.counts["t: rows imported"]) == (14, 2)
    made.check_balance("t")


def test_the_rejects_hold_no_cell_of_the_source(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,HR,80,\n1,when,HR,Mr Planted,\n")
    made = import_tables({"t": RULE})
    text = str(made.rejects.rows()) + (made.path / "import" / "counts.json").read_text()
    assert "Planted" not in text
    assert "when" not in text


def test_files_of_patients_are_called_by_number_in_the_rejects(source, import_tables):
    for patient in (1, 2):
        (source / f"p{patient}.csv").write_text("time,HR\n2020-01-01,80\n2020-01-02,fast\n")
    rule = {"files": "p{who}.csv", "subject": "who", "time": "time", "events": [{"melt": "HR"}]}
    made = import_tables({"t": rule})
    assert made.rejects.select("file", "row", "rule").rows() == [
        ("file 1 of 2, p{who}.csv", 2, "events.0: HR"),
        ("file 2 of 2, p{who}.csv", 2, "events.0: HR"),
    ]


def test_a_wide_table_is_melted_and_what_is_wrong_in_it_costs_one_cell(source, import_tables):
    (source / "t.csv").write_text(
        "subject_id,time,HR,Temp,note\n"
        "1,2020-01-01,80,NaN,a\n"
        "1,2020-01-02,fast,36.6,b\n"
        "1,2020-01-03,,,c\n"
    )
    rule = {"files": "t.csv", "time": "time", "events": [{"melt": "*", "without": "note"}]}
    made = import_tables({"t": rule})
    assert made.rows("code", "numeric_value") == [("HR", 80.0), ("Temp", pytest.approx(36.6))]
    assert made.counts["t: rows left out, nothing measured or said"] == 1
    assert made.counts["t: cells left out, the value is no number"] == 1
    assert made.rejects.select("row", "rule", "row_left_out").sort("row").rows() == [
        (2, "events.0: HR", False),
        (3, None, True),
    ]
    made.check_balance("t")


def test_static_rows_that_repeat_count_once_and_others_stay(source, import_tables):
    (source / "t.csv").write_text("subject_id,sex,age\n1,F,60\n1,F,61\n2,F,60\n2,F,60\n")
    events = [
        {"code": "SEX//{sex}"},
        {"code": "AGE", "value": "age"},
        {"code": "MEDS_BIRTH", "time": {"day": datetime(1960, 1, 1)}},
    ]
    made = import_tables({"t": {"files": "t.csv", "events": events}})
    assert made.rows("subject_id", "time", "code", "numeric_value") == [
        (1, None, "SEX//F", None),
        (1, None, "AGE", 60.0),
        (1, None, "AGE", 61.0),
        (1, datetime(1960, 1, 1), "MEDS_BIRTH", None),
        (2, None, "SEX//F", None),
        (2, None, "AGE", 60.0),
        (2, datetime(1960, 1, 1), "MEDS_BIRTH", None),
    ]
    assert made.counts["static events, births and deaths that repeat another"] == 5
    assert made.counts["events written"] == 7


def test_of_deaths_and_of_what_is_there_once_the_first_counts(source, import_tables):
    (source / "t.csv").write_text(
        "subject_id,out,dod,unit\n1,2020-01-03 09:00:00,2020-01-03,B\n1,2020-01-02 08:00:00,,A\n"
        "2,2020-01-02 08:00:00,,A\n"
    )
    events = [
        {"code": "OUT//{unit}", "time": "out", "first_of": "discharge"},
        {"code": "ALSO//{unit}", "time": "out", "first_of": "discharge"},
        {"code": "MEDS_DEATH", "time": "dod"},
        {"code": "MEDS_DEATH", "time": "out", "where": {"unit": "B"}},
    ]
    made = import_tables({"t": {"files": "t.csv", "events": events}})
    assert made.rows("subject_id", "time", "code") == [
        (1, datetime(2020, 1, 2, 8), "OUT//A"),
        (1, datetime(2020, 1, 3, 9), "MEDS_DEATH"),
        (2, datetime(2020, 1, 2, 8), "OUT//A"),
    ]
    # Those that came later: two of OUT and ALSO of subject 1, one of subject 2, a death.
    words = "births, deaths and others of which the first counts, after it"
    assert made.counts[words] == 5
    assert made.counts["events written"] == 3
    assert made.counts["t: dates without a time, placed at the day's end"] == 1


def test_times_in_an_hour_that_is_there_twice_are_counted(source, import_tables):
    rows = "1,2020-10-25T02:30:00+01:00,HR,80,\n1,2020-10-25T03:30:00+01:00,HR,80,\n"
    (source / "t.csv").write_text(LONG + rows)
    made = import_tables({"t": RULE}, time_zone="Europe/Zurich")
    words = "t: times in the hour that is there twice where summer time ends"
    assert made.counts[words] == 1


def test_events_of_the_same_time_that_repeat_all_stay(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,HR,80,\n1,2020-01-01,HR,80,\n")
    assert len(import_tables({"t": RULE}).events) == 2


def test_a_row_without_a_time_is_never_static(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,,HR,80,\n1,2020-01-01,HR,80,\n")
    assert import_tables({"t": RULE}).events["time"].null_count() == 0


def test_a_dictionary_gives_subjects_descriptions_and_parents(source, import_tables):
    (source / "t.csv").write_text("stay,item,value\n10,1,80\n11,2,7\n12,1,9\n")
    (source / "stays.csv").write_text("id,subject_id,start\n10,1,2020-01-01\n11,2,2020-01-02\n")
    (source / "items.csv").write_text("item,label,loinc\n1,Heart rate,8867-4\n2,Other,\n")
    lookups = {
        "stays": {"files": "stays.csv", "key": "id", "columns": ["subject_id", "start"]},
        "items": {"files": "items.csv", "key": "item", "columns": ["label", "loinc"]},
    }
    event = {"code": "M//{item}", "value": "value", "description": "{label}", "parent": "L/{loinc}"}
    rule = {
        "files": "t.csv",
        "join": {"stays": "stay", "items": "item"},
        "time": {"after": "start", "hours": 2},
        "events": [event],
    }
    made = import_tables({"t": rule}, lookups=lookups)
    assert made.rows("subject_id", "time", "numeric_value") == [(1, at(1, 2), 80), (2, at(2, 2), 7)]
    codes = pl.read_parquet(made.path / "metadata" / "codes.parquet").sort("code")
    assert codes.select("code", "description", "parent_codes").rows() == [
        ("M//1", "Heart rate", ["L/8867-4"]),
        ("M//2", "Other", None),
    ]
    assert made.counts["t: rows left out, no subject"] == 1


def test_a_key_that_a_lookup_has_twice_is_refused(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,HR,80,\n")
    (source / "items.csv").write_text("item,label\nHR,a\nHR,b\n")
    lookups = {"items": {"files": "items.csv", "key": "item", "columns": "label"}}
    with pytest.raises(SchemaError, match=r"lookups\.items: 1 rows have a item"):
        import_tables({"t": {**RULE, "join": {"items": "item"}}}, lookups=lookups)


def test_text_where_there_is_no_number_becomes_part_of_the_code(source, import_tables):
    (source / "t.csv").write_text(
        LONG + f"1,2020-01-01,HR,80,\n1,2020-01-01,HR,Sinus,\n1,2020-01-01,HR,{'x' * 65},\n"
    )
    event = {"code": "{item}", "value": "value", "category": "value"}
    made = import_tables({"t": {**RULE, "events": [event]}})
    assert made.rows("code", "numeric_value") == [("HR", 80.0), ("HR//Sinus", None)]
    assert made.rejects["reason"].to_list() == [
        "the category has over 64 characters, or a line break"
    ]


def test_units_are_converted_by_rule_and_told_with_the_code(source, import_tables):
    (source / "t.csv").write_text(
        LONG + "1,2020-01-01,T,98.6,F\n1,2020-01-02,T,37,C\n1,2020-01-03,G,5,mmol/L\n"
    )
    units = [
        {"unit": ["F", "degF"], "to": "C", "add": -32, "divide": 1.8},
        {"unit": "mmol/L", "to": "mg/dL", "multiply": 18, "codes": "G//.*"},
    ]
    event = {"code": "{item}//{unit}", "value": "value", "unit": "{unit}"}
    made = import_tables({"t": {**RULE, "events": [event]}}, units=units)
    assert made.rows("code", "numeric_value") == [
        ("T//C", pytest.approx(37.0)),
        ("T//C", 37.0),
        ("G//mg/dL", 90.0),
    ]
    codes = pl.read_parquet(made.path / "metadata" / "codes.parquet")
    assert dict(codes.select("code", "unit").rows()) == {"T//C": "C", "G//mg/dL": "mg/dL"}


def test_values_of_one_code_in_several_units_are_counted(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,T,98.6,F\n1,2020-01-02,T,37,C\n")
    event = {"code": "{item}", "value": "value", "unit": "{unit}"}
    made = import_tables({"t": {**RULE, "events": [event]}})
    assert made.counts["codes with values in several units"] == 1


def test_cells_are_replaced_split_and_parsed(source, import_tables):
    (source / "t.csv").write_text(
        'subject_id,time,icd,bp,sex\n1,2020-01-01,"A1, B2",120/80,0\n1,2020-01-02,,,1\n'
    )
    rule = {
        "files": "t.csv",
        "time": "time",
        "replace": {"sex": {0: "F", 1: "M"}},
        "split": {"icd": ","},
        "parse": {"bp": r"^(?P<sys>\d+)/(?P<dia>\d+)$"},
        "events": [
            {"code": "ICD//{icd}"},
            {"code": "SYS", "value": "sys", "where": {"icd": ["A1", None]}},
            {"code": "SEX//{sex}", "time": None},
        ],
    }
    made = import_tables({"t": rule})
    assert sorted(made.rows("code", "numeric_value")) == [
        ("ICD//A1", None),
        ("ICD//B2", None),
        ("SEX//F", None),
        ("SEX//M", None),
        ("SYS", 120.0),
    ]
    assert (made.counts["t: rows read"], made.counts["t: rows imported"]) == (2, 2)


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("a", [1]),
        (["a", None], [1, 4]),
        ({"none_of": "a"}, [2, 3, 4]),
        ({"none_of": ["a", None]}, [2, 3]),
        ({"matches": "^[ab]$"}, [1, 2]),
        (2, [3]),
    ],
)
def test_where_keeps_the_rows_it_names(source, import_tables, condition, kept):
    (source / "t.csv").write_text(
        "subject_id,time,item,value,flag\n"
        "1,2020-01-01,HR,1,a\n1,2020-01-01,HR,2,b\n1,2020-01-01,HR,3,2.0\n1,2020-01-01,HR,4,\n"
    )
    made = import_tables({"t": {**RULE, "where": {"flag": condition}}})
    assert made.events["numeric_value"].to_list() == kept
    assert made.counts["t: rows left out, left out by where"] == 4 - len(kept)
    made.check_balance("t")


def test_labels_and_samples_come_with_the_rows(source, import_tables):
    (source / "t.csv").write_text("subject_id,time,HR,sick\n1,2020-01-01,80,0\n1,2020-01-02,90,1\n")
    (source / "o.csv").write_text("subject_id,died,days\n1,yes,3.5\n9,no,1\n")
    tables = {
        "t": {
            "files": "t.csv",
            "time": "time",
            "events": [{"melt": "*"}],
            "labels": {"sick": {"boolean": "sick"}},
            "samples": {"time": {"after": "time", "hours": 1}},
        },
        "o": {
            "files": "o.csv",
            "time": {"after": datetime(2020, 1, 1), "hours": 48},
            "labels": {"died": {"boolean": "died"}, "stay": {"number": "days"}},
        },
    }
    made = import_tables(tables)
    assert set(made.events["code"]) == {"HR"}
    sick = pl.read_parquet(made.path / "tasks" / "sick" / "0.parquet")
    assert sick.rows() == [(1, at(1, 23, 59, 59), False), (1, at(2, 23, 59, 59), True)]
    stay = pl.read_parquet(made.path / "tasks" / "stay" / "0.parquet")
    assert stay.select("subject_id", "prediction_time", "float_value").rows() == [(1, at(3), 3.5)]
    samples = pl.read_parquet(made.path / "samples.parquet")
    assert samples["prediction_time"].to_list() == [at(1, 1), at(2, 1)]
    assert made.counts["died: labels of subjects without an event"] == 1
    assert validate(made.path).findings[0].check == "splits"


def test_labels_that_contradict_each_other_are_refused(source, import_tables):
    (source / "t.csv").write_text("subject_id,time,HR,sick\n1,2020-01-01,80,0\n1,2020-01-01,90,1\n")
    rule = {**RULE, "events": [{"melt": "HR"}], "labels": {"sick": {"boolean": "sick"}}}
    with pytest.raises(SchemaError, match=r"labels\.sick: 1 labels differ from another"):
        import_tables({"t": rule})


def test_rows_of_lookups_that_are_left_out_and_keys_that_they_lack_are_counted(
    source, import_tables
):
    (source / "stays.csv").write_text(
        "stay,out\n1,2020-01-05\n2,2020-01-06,extra\n,2020-01-07\n1,2020-01-05\n"
    )
    (source / "t.csv").write_text("subject_id,stay,code\n1,1,A\n2,2,B\n3,,C\n4,9,D\n")
    lookups = {"stays": {"files": "stays.csv", "key": "stay", "columns": "out"}}
    rule = {
        "files": "t.csv",
        "join": {"stays": "stay"},
        "time": "out",
        "events": [{"code": "DX//{code}"}],
    }
    made = import_tables({"t": rule}, lookups=lookups)
    assert made.rows("code") == [("DX//A",)]
    assert made.counts["t: rows whose key lookups.stays doesn't have"] == 2
    assert {k: n for k, n in made.counts.items() if k.startswith("lookups.stays")} == {
        "lookups.stays: rows read": 4,
        "lookups.stays: rows imported": 2,
        "lookups.stays: rows left out, more or fewer cells than the header": 1,
        "lookups.stays: rows left out, no key": 1,
    }
    of_lookup = made.rejects.filter(pl.col("table") == "lookups.stays")
    assert of_lookup.select("file", "row", "reason").rows() == [
        ("stays.csv", 2, "more or fewer cells than the header"),
        ("stays.csv", 3, "no key"),
    ]
    made.check_balance("t")
    made.check_balance("lookups.stays")


def test_a_cell_that_can_be_no_name_of_a_file_is_no_image(source, import_tables):
    (source / "a.png").write_bytes(b"image")
    (source / "t.csv").write_text(
        f"subject_id,time,path\n1,2020-01-01,a.png\n1,2020-01-02,{'a' * 300}.png\n"
    )
    rule = {"files": "t.csv", "time": "time", "events": [{"code": "XR", "image": "{path}"}]}
    made = import_tables({"t": rule})
    assert made.rows("image_path") == [("images/a.png",)]
    assert made.counts["t: rows left out, no such image"] == 1


def test_an_image_that_cannot_be_written_stops_the_import_without_its_name(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "smith.png").write_bytes(b"image")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").write_text("a file where the folder should be")
    folder = ImageFolder(tmp_path / "source", tmp_path / "out")
    with pytest.raises(SchemaError, match="images: one cannot be copied") as raised:
        folder.take(pl.Series(["smith.png"]), np.zeros(1, dtype=np.uint8))
    assert "smith" not in str(raised.value)


def test_images_are_copied_and_nothing_from_outside_is(source, import_tables, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (source / "files").mkdir()
    (source / "files" / "a.png").write_bytes(b"image")
    (source / "files" / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "files" / "loop.png").symlink_to(source / "files" / "loop.png")
    paths = ["files/a.png", "files/none.png", "../secret.png", "files/link.png", "files/loop.png"]
    paths += [str(tmp_path / "secret.png"), "files/../../secret.png", ""]
    rows = "".join(f"1,2020-01-01,{path}\n" for path in paths)
    (source / "t.csv").write_text("subject_id,time,path\n" + rows)
    rule = {"files": "t.csv", "time": "time", "events": [{"code": "XR", "image": "{path}"}]}
    made = import_tables({"t": rule})
    assert made.rows("code", "image_path") == [("XR", "images/files/a.png")]
    assert (made.path / "images" / "files" / "a.png").read_bytes() == b"image"
    assert sorted(p.name for p in (made.path / "images").rglob("*.png")) == ["a.png"]
    assert made.counts["t: rows left out, the image's path leads out of the source"] == 4
    assert made.counts["t: rows left out, no such image"] == 2
    assert made.counts["t: rows left out, nothing measured or said"] == 1
    made.check_balance("t")


def test_text_keeps_its_lines_and_spaces(source, import_tables):
    (source / "t.csv").write_text(
        'subject_id,time,note\n1,2020-01-01," two\n\nlines, ""quoted"" "\n'
    )
    rule = {"files": "t.csv", "time": "time", "events": [{"code": "NOTE", "text": "note"}]}
    made = import_tables({"t": rule})
    assert made.rows("text_value") == [(' two\n\nlines, "quoted" ',)]


def test_text_ids_are_hashed_where_the_mapping_says_so(source, import_tables):
    (source / "t.csv").write_text(LONG + "a-1,2020-01-01,HR,80,\nb-2,2020-01-01,HR,81,\n")
    (source / "u.csv").write_text(LONG + "b-2,2020-01-02,HR,82,\n")
    made = import_tables({"t": RULE, "u": {**RULE, "files": "u.csv"}}, subject_ids="hash")
    values = made.events.group_by("subject_id").agg(pl.col("numeric_value"))["numeric_value"]
    assert sorted(values.to_list()) == [[80.0], [81.0, 82.0]]
    assert made.events["subject_id"].max() < 2**52


def test_subjects_of_one_person_are_in_one_split(source, import_tables):
    rows = "".join(f"{stay},2020-01-01,HR,80,{stay // 4}\n" for stay in range(80))
    (source / "t.csv").write_text(LONG.replace("unit", "person") + rows)
    made = import_tables(
        {"t": RULE}, split_together={"t": "person"}, splits={"train": 0.5, "held_out": 0.5}
    )
    splits = pl.read_parquet(made.path / "metadata" / "subject_splits.parquet")
    people = splits.group_by(pl.col("subject_id") // 4).agg(pl.col("split").n_unique())
    assert len(splits) == 80
    assert people["split"].to_list() == [1] * 20
    assert splits["split"].n_unique() == 2


def test_tables_that_are_absent_are_told_and_the_rest_is_imported(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,HR,80,\n")
    made = import_tables({"t": RULE, "u": {**RULE, "files": "u.csv"}})
    assert made.counts["tables not in the source: u"] == 1
    assert len(made.events) == 1


def test_a_source_without_any_table_is_refused(source, import_tables):
    with pytest.raises(ConfigError, match="has no file of any table"):
        import_tables({"t": RULE})


def test_columns_that_are_not_there_are_told_all_at_once(source, import_tables):
    (source / "t.csv").write_text("subject_id,time,item,valuenum\n1,2020-01-01,HR,80\n")
    rule = {
        "files": "t.csv",
        "time": "charttime",
        "events": [{"code": "{item}//{uom}", "value": "value"}, {"code": "item"}],
    }
    with pytest.raises(ConfigError) as raised:
        import_tables({"t": rule})
    lines = str(raised.value).splitlines()
    assert "tables.t.events.0.value: t.csv has no column value; did you mean valuenum?" in lines[2]
    assert any("tables.t.events.0.code: t.csv has no column uom" in line for line in lines)
    assert any("has no column charttime" in line for line in lines)
    assert any("item is a column; write {item} for its cells" in line for line in lines)


def test_a_source_that_may_not_be_written_to_is_imported(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,HR,80,\n")
    before = sorted(os.walk(source))
    source.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert len(import_tables({"t": RULE}).events) == 1
    finally:
        source.chmod(stat.S_IRWXU)
    assert sorted(os.walk(source)) == before


def test_the_extract_may_not_lie_in_the_source(source, tmp_path):
    raw = {"name": "test", "subject": "subject_id", "tables": {"a": {**RULE, "files": "a.csv"}}}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match="is within the source"):
        import_flat(tmp_path / "m.yaml", source, source / "out")
    assert list(source.iterdir()) == []


def test_an_import_that_fails_late_leaves_nothing(source, import_tables, tmp_path):
    (source / "a.csv").write_text(LONG + "1,2020-01-01,HR,80,\n")
    (source / "b.csv.gz").write_bytes(gzip.compress(LONG.encode() * 50_000)[:-20])
    with pytest.raises(SchemaError, match=r"b\.csv\.gz: damaged or incomplete"):
        import_tables({"a": {**RULE, "files": "a.csv"}, "b": {**RULE, "files": "b.csv"}})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mapping.yaml", "source"]


def test_a_source_in_which_no_row_gives_an_event_is_refused_with_the_reason(source, import_tables):
    (source / "t.csv").write_text(LONG + "x,2020-01-01,HR,80,\ny,2020-01-01,HR,80,\n")
    with pytest.raises(SchemaError, match="of 2 rows of t, 2: the subject is no whole number"):
        import_tables({"t": RULE})


def test_many_parts_make_the_same_events_as_one(source, import_tables, tmp_path, monkeypatch):
    rows = "".join(f"{n % 37},2020-01-{n % 28 + 1:02},HR,{n % 200},\n" for n in range(2000))
    (source / "t.csv").write_text(LONG + rows)
    one = import_tables({"t": RULE})
    (tmp_path / "out").rename(tmp_path / "one")
    monkeypatch.setattr("clinical.extract.importers.flat.parts.BYTES_PER_PART", 10_000)
    monkeypatch.setattr("clinical.extract.importers.flat.source.BATCH_ROWS", 100)
    monkeypatch.setattr("clinical.extract.importers.flat.delimited.BLOCK_BYTES", 2_000)
    several = import_tables({"t": RULE})
    shards = sorted((several.path / "data").glob("*.parquet"))
    assert len(shards) > 3
    alone = pl.read_parquet(tmp_path / "one" / "data" / "0.parquet")
    assert several.events.sort("subject_id", "time", maintain_order=True).equals(alone)
    assert several.counts == one.counts
    assert [f.check for f in validate(several.path).findings] == ["splits"]


def test_columns_that_are_replaced_or_parsed_have_to_be_in_the_files(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,HR,80,\n")
    (source / "items.csv").write_text("item,label\nHR,Heart rate\n")
    lookups = {"items": {"files": "items.csv", "key": "item", "columns": "label"}}
    rule = {**RULE, "join": {"items": "item"}, "replace": {"label": {"a": "b"}}}
    with pytest.raises(ConfigError, match=r"tables\.t\.replace: t\.csv has no column label"):
        import_tables({"t": rule}, lookups=lookups)
    lookups["items"]["replace"] = {"lable": {"a": "b"}}
    with pytest.raises(SchemaError, match=r"lookups\.items: items\.csv has no column lable"):
        import_tables({"t": {**RULE, "join": {"items": "item"}}}, lookups=lookups)


def test_a_column_that_a_join_would_hide_is_told(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,HR,80,\n")
    (source / "items.csv").write_text("item,value\nHR,1\n")
    lookups = {"items": {"files": "items.csv", "key": "item", "columns": "value"}}
    with pytest.raises(ConfigError, match="column value is in the files and added too"):
        import_tables({"t": {**RULE, "join": {"items": "item"}}}, lookups=lookups)
    lookups["items"]["columns"] = {"value": "theirs", "item": "again"}
    events = [{"code": "{again}//{theirs}", "value": "value"}]
    made = import_tables(
        {"t": {**RULE, "join": {"items": "item"}, "events": events}}, lookups=lookups
    )
    assert made.rows("code", "numeric_value") == [("HR//1", 80.0)]


def test_a_lookup_without_a_row_knows_no_key(source, import_tables):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,HR,80,\n")
    (source / "items.csv").write_text("item,label\n")
    lookups = {"items": {"files": "items.csv", "key": "item", "columns": "label"}}
    events = [{"code": "{item}//{label|}", "value": "value"}]
    made = import_tables(
        {"t": {**RULE, "join": {"items": "item"}, "events": events}}, lookups=lookups
    )
    assert made.rows("code") == [("HR",)]


def test_subjects_that_should_stay_together_are_not_split_without_their_table(
    source, import_tables
):
    (source / "t.csv").write_text(LONG + "1,2020-01-01,HR,80,\n")
    tables = {"t": RULE, "people": {**RULE, "files": "people.csv"}}
    options = {"split_together": {"people": "person"}}
    with pytest.raises(ConfigError, match=r"split_together\.people: the source has no such table"):
        import_tables(tables, splits={"train": 1.0}, **options)
    with pytest.raises(ConfigError, match="or it is switched off"):
        import_tables({"t": RULE, "people": None}, splits={"train": 1.0}, **options)
    assert len(import_tables(tables, splits=None, **options).events) == 1


def test_two_imports_of_one_source_are_the_same_to_the_byte(source, import_tables, tmp_path):
    rows = "".join(f"{n % 7},2020-01-{n % 28 + 1:02},HR,{n % 90 + 30},\n" for n in range(500))
    (source / "t.csv").write_text(LONG + rows)
    first = {p.name: p.read_bytes() for p in import_tables({"t": RULE}).path.rglob("*.parquet")}
    (tmp_path / "out").rename(tmp_path / "first")
    again = {p.name: p.read_bytes() for p in import_tables({"t": RULE}).path.rglob("*.parquet")}
    assert first == again


def test_cells_are_imported_the_same_from_text_and_from_parquet(source, import_tables, tmp_path):
    frame = pl.DataFrame(
        {
            "subject_id": [1, 1, 2],
            "time": [at(1, 10), at(2), None],
            "item": ["HR", "Temp", "HR"],
            "value": [80.0, 36.5, 70.0],
        }
    )
    frame.write_csv(source / "t.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    text = import_tables({"t": RULE})
    (tmp_path / "out").rename(tmp_path / "text")
    (source / "t.csv").unlink()
    frame.write_parquet(source / "t.parquet")
    typed = import_tables({"t": RULE})
    assert typed.events.equals(pl.read_parquet(tmp_path / "text" / "data" / "0.parquet"))
    assert typed.counts == text.counts


def test_no_identifier_of_the_source_is_in_any_file_of_the_extract(source, import_tables):
    for name in ("Planted-Anna", "Planted-Berta"):
        (source / f"{name}.csv").write_text(
            f"time,HR,who\n2020-01-01,80,{name}\n{name},81,{name}\n2020-01-02,{name},{name}\n"
        )
    rule = {
        "files": "{who_file}.csv",
        "subject": "who_file",
        "time": "time",
        "events": [{"melt": "HR"}],
    }
    made = import_tables({"t": rule}, subject_ids="hash")
    assert made.events["subject_id"].n_unique() == 2
    assert len(made.rejects) == 4
    for path in made.path.rglob("*"):
        assert path.is_dir() or b"Planted" not in path.read_bytes()
        if path.suffix == ".parquet":
            assert "Planted" not in str(pl.read_parquet(path).rows())
    assert "Planted" not in str(made.counts)


def test_cells_that_say_nothing_are_the_same_in_text_and_in_parquet(
    source, import_tables, tmp_path
):
    frame = pl.DataFrame(
        {
            "subject_id": [1, 1, 1],
            "time": ["2020-01-01", "NA", "2020-01-02"],
            "item": ["Lactate"] * 3,
            "value": [-1.0, 2.0, 3.0],
        }
    )
    frame.with_columns(pl.col("value").cast(pl.Int64)).write_csv(source / "t.csv")
    text = import_tables({"t": RULE}, missing=["NA", "-1"])
    (tmp_path / "out").rename(tmp_path / "text")
    (source / "t.csv").unlink()
    frame.write_parquet(source / "t.parquet")
    typed = import_tables({"t": RULE}, missing=["NA", "-1"])
    assert typed.rows("numeric_value") == [(3.0,)]
    assert typed.counts == text.counts


def test_a_lookup_keeps_the_first_row_or_that_with_the_least_or_greatest_number(
    source, import_tables
):
    (source / "t.csv").write_text(
        "subject_id,time,value,day\n1,2020-01-01,,10\n1,2020-01-02,7,9\n1,2020-01-03,8,x\n"
        "2,2020-01-01,,\n"
    )
    kept = {
        f"the_{keep}": {
            "files": "t.csv",
            "key": "subject_id",
            "columns": {("value" if keep == "first" else "day"): keep},
            "keep": keep,
        }
        for keep in ("first", "least", "greatest")
    }
    codes = ("{first}", "{least}", "{greatest}")
    events = [{"code": code, "time": None} for code in codes]
    rule = {
        "files": "t.csv",
        "time": "time",
        "join": dict.fromkeys(kept, "subject_id"),
        "events": [*events, {"code": "all"}],
    }
    made = import_tables({"t": rule}, lookups=kept)
    static = made.events.filter(pl.col("time").is_null())
    # Ten is more than nine, though not as text; the second subject's rows say nothing.
    assert static.select("subject_id", "code").rows() == [(1, "7"), (1, "9"), (1, "10")]


def test_a_row_that_repeats_an_event_counts_once_where_the_mapping_says_so(source, import_tables):
    (source / "t.csv").write_text(
        "subject_id,time,note\n1,2020-01-01,a\n1,2020-01-01,a\n1,2020-01-01,b\n1,2020-01-02,a\n"
        "2,2020-01-01,a\n"
    )
    rule = {
        "files": "t.csv",
        "time": "time",
        "events": [{"code": "NOTE", "text": "note", "once": True}, {"code": "SEEN"}],
    }
    made = import_tables({"t": rule})
    notes = made.events.filter(pl.col("code") == "NOTE")
    assert notes.select("subject_id", "text_value").rows() == [
        (1, "a"),
        (1, "b"),
        (1, "a"),
        (2, "a"),
    ]
    assert made.events.filter(pl.col("code") == "SEEN").height == 5


def test_a_label_may_be_the_answer_to_a_condition(source, import_tables):
    (source / "t.csv").write_text(
        "subject_id,time,finding\n1,2020-01-01,Flu A\n1,2020-01-01,Flu B\n2,2020-01-01,Cold\n"
        "3,2020-01-01,Flu A\n3,2020-01-01,Cold\n"
    )
    label = {"boolean": {"finding": {"matches": "^Flu"}}}
    rule = {"files": "t.csv", "time": "time", "events": [{"code": "X"}], "labels": {"flu": label}}
    with pytest.raises(SchemaError, match=r"1 labels differ.*drop_conflicts"):
        import_tables({"t": rule})
    label["drop_conflicts"] = True
    made = import_tables({"t": rule})
    labels = pl.read_parquet(made.path / "tasks" / "flu" / "0.parquet")
    assert labels.select("subject_id", "boolean_value").rows() == [(1, True), (2, False)]
    assert made.counts["flu: labels left out, as rows of one time differ"] == 1


def test_images_of_a_folder_images_keep_their_place(source, import_tables):
    (source / "images").mkdir()
    for name in ("images/a.png", "b.png"):
        (source / name).write_bytes(b"x")
    (source / "t.csv").write_text(
        "subject_id,time,file\n1,2020-01-01,images/a.png\n1,2020-01-01,b.png\n"
    )
    rule = {"files": "t.csv", "time": "time", "events": [{"code": "X", "image": "{file}"}]}
    made = import_tables({"t": rule})
    assert made.rows("image_path") == [("images/a.png",), ("images/b.png",)]
    shutil.rmtree(made.path)
    (source / "a.png").write_bytes(b"another")
    (source / "t.csv").write_text(
        "subject_id,time,file\n1,2020-01-01,images/a.png\n1,2020-01-01,a.png\n"
    )
    with pytest.raises(SchemaError, match="give one of them another name"):
        import_tables({"t": rule})


def test_a_mapping_that_is_not_there_is_said_before_anything_about_folders(tmp_path):
    full = tmp_path / "out"
    full.mkdir()
    (full / "file").touch()
    with pytest.raises(ConfigError, match=r"no\.yaml: there is no such file"):
        import_flat(tmp_path / "no.yaml", tmp_path / "nowhere", full)
