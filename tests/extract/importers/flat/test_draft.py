"""A first mapping of a folder: always valid, with questions, and without a cell of the source."""

from clinical.errors import ConfigError
from clinical.extract.importers.flat import import_flat
from clinical.extract.importers.flat.draft.writing import draft_text
from clinical.extract.importers.flat.mapping import MappingConfig

import re
from pathlib import Path

import polars as pl
import pytest
import yaml

DEMO = Path(__file__).parents[4] / ".." / "shared" / "data" / "mimic-iii-demo"


@pytest.fixture
def draft(source, tmp_path):
    """Draft a mapping of the source and read it back: its text, and what it says."""

    def do():
        text = draft_text(source)
        (tmp_path / "draft.yaml").write_text(text)
        MappingConfig.read(tmp_path / "draft.yaml")
        return text, yaml.safe_load(text)

    return do


def test_a_wide_table_a_patient_is_recognised_and_imports_as_drafted(source, draft, tmp_path):
    (source / "training").mkdir()
    for patient in range(1, 4):
        (source / "training" / f"p{patient:03}.psv").write_text(
            "HR|Temp|Age|ICULOS|SepsisLabel\n97|NaN|83|1|0\n89|36.11|83|2|1\n"
        )
    text, raw = draft()
    assert raw["subject"] == "file_id"
    table = raw["tables"]["training_p"]
    assert table["files"] == "training/p{file_id}.psv"
    assert table["time"]["hours"] == "ICULOS"
    assert {"melt": ["HR", "Temp"]} in table["events"]
    assert table["labels"] == {"SepsisLabel": {"boolean": "SepsisLabel"}}
    assert "# ? is ICULOS in hours, and since when?" in text
    report = import_flat(tmp_path / "draft.yaml", source, tmp_path / "out")
    assert report.counts["training_p: rows imported"] == 6


def test_a_long_table_gets_its_value_unit_format_and_dictionary(source, draft, tmp_path):
    (source / "labs.csv").write_text(
        "lab_id;patient_id;item_id;taken;validated;value;valuenum;unit\n"
        "1;7;10;03.02.2020 08:00;13.02.2020 09:00;4,5;4,5;g/L\n"
        "2;7;11;03.02.2020 08:00;13.02.2020 09:00;trüb;;\n"
        "3;8;10;03.02.2020 08:00;13.02.2020 09:00;4,6;4,6;g/L\n",
        encoding="latin-1",
    )
    (source / "items.csv").write_text("item_id,title\n10,Albumin\n11,Urine\n12,Other\n")
    text, raw = draft()
    table = raw["tables"]["labs"]
    assert (table["separator"], table["encoding"], table["decimal"]) == (";", "latin-1", ",")
    assert table["time"] == {"column": "validated", "formats": ["%d.%m.%Y %H:%M"]}
    assert table["events"] == [
        {
            "code": "LABS//{item_id}//{unit|}",
            "value": "valuenum",
            "category": "value",
            "unit": "{unit|}",
            "description": "{title}",
        }
    ]
    assert raw["lookups"]["items"]["key"] == "item_id"
    assert "# ? when did it become known? times are taken, validated" in text
    import_flat(tmp_path / "draft.yaml", source, tmp_path / "out")
    events = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    assert events["numeric_value"].drop_nulls().to_list() == pytest.approx([4.5, 4.6])


def test_dates_that_fit_several_formats_are_asked_about(source, draft):
    (source / "t.csv").write_text("patient_id,date,HR\n1,03/02/2020,80\n2,04/02/2020,81\n")
    text, _ = draft()
    assert "# ? date: which is it, %m/%d/%Y or %d/%m/%Y?" in text


def test_text_ids_are_hashed_and_a_death_flag_becomes_a_label_not_an_input(source, draft):
    (source / "t.csv").write_text(
        "patient_id,day,HR,died\na1,2020-01-01,80,0\nb2,2020-01-02,81,1\n"
    )
    _, raw = draft()
    assert raw["subject_ids"] == "hash"
    assert raw["tables"]["t"]["labels"] == {"died": {"boolean": "died"}}
    assert raw["tables"]["t"]["events"] == [{"melt": ["HR"]}]
    assert raw["tables"]["t"]["time"] == {"date": "day"}


def test_no_cell_of_the_source_is_in_a_draft(source, draft):
    rows = "".join(f"{n},2020-01-0{n},Planted{n},{'secret word ' * 8}\n" for n in range(1, 9))
    (source / "t.csv").write_text("patient_id,day,name,comment\n" + rows)
    text, raw = draft()
    assert "Planted" not in text
    assert "secret" not in text
    assert {"code": "NOTE//comment", "text": "comment"} in raw["tables"]["t"]["events"]


def test_what_cannot_be_read_or_used_is_switched_off_with_its_reason(source, draft):
    (source / "t.csv").write_text("patient_id,day,HR\n1,2020-01-01,80\n")
    (source / "empty.csv").write_text("")
    (source / "lonely.csv").write_text("colour,taste\nred,sweet\n")
    (source / "scan.jpg").write_bytes(b"x")
    text, raw = draft()
    assert raw["tables"]["empty"] is None
    assert raw["tables"]["lonely"] is None
    assert "# ? could not be read: empty.csv: is empty" in text
    assert "# ? no column looks like a subject" in text
    assert "# ? 1 files with .jpg are not looked at" in text


def test_odd_names_of_files_and_columns_leave_the_draft_valid(source, draft):
    (source / "a").mkdir()
    for name in ("a/x.csv", "a_x.csv", "2019.csv"):
        (source / name).write_text("patient_id,day,HR,{sex},a|b,c//d\n1,2020-01-01,80,F,x,y\n")
    text, raw = draft()
    assert sorted(map(str, raw["tables"])) == ["2019", "a_x", "a_x_2"]
    assert "# ? 3 columns have names with braces" in text


def test_a_table_whose_subject_is_another_column_is_asked_about(source, draft):
    (source / "stays.csv").write_text(
        "subject_id,stay_id,intime,unit\n1,10,2020-01-01 10:00,MICU\n"
    )
    (source / "more.csv").write_text("subject_id,day,HR\n1,2020-01-01,80\n")
    (source / "chart.csv").write_text("stay_id,charttime,HR\n10,2020-01-01 11:00,80\n")
    text, raw = draft()
    assert raw["subject"] == "subject_id"
    assert raw["tables"]["chart"]["subject"] == "stay_id"
    assert "# ? its subject is stay_id, that of other tables subject_id" in text


def test_a_folder_without_a_table_of_subjects_is_refused(source):
    (source / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ConfigError, match="no table with a subject was found"):
        draft_text(source)
    with pytest.raises(ConfigError, match="there is no folder"):
        draft_text(source / "absent")


def test_how_it_ended_is_placed_at_the_latest_of_the_times(source, draft):
    (source / "stays.csv").write_text(
        "subject_id,intime,outtime,first_unit,last_unit,gender,los,discharge_location\n"
        "1,2020-01-01 10:00,2020-01-03 10:00,MICU,SICU,F,2.0,HOME\n"
        "2,2020-01-01 10:00,2020-01-02 10:00,MICU,MICU,M,1.0,DIED\n"
    )
    text, raw = draft()
    table = raw["tables"]["stays"]
    last = {"latest": ["intime", "outtime"]}
    assert table["time"] == "intime"
    assert {"code": "FIRST_UNIT//{first_unit}"} in table["events"]
    for event in (
        {"code": "LAST_UNIT//{last_unit}", "time": last},
        {"code": "DISCHARGE_LOCATION//{discharge_location}", "time": last},
        {"melt": ["los"], "time": last},
    ):
        assert event in table["events"]
    assert "# ? last_unit, los, discharge_location: when were they known?" in text


def test_amounts_of_what_has_an_end_are_placed_at_the_latest_of_the_times(source, draft):
    (source / "given.csv").write_text(
        "subject_id,starttime,endtime,storetime,item,amount\n"
        "1,2020-01-01 10:00,2020-01-03 10:00,2020-01-01 10:05,7,100\n"
    )
    _, raw = draft()
    (event,) = raw["tables"]["given"]["events"]
    assert event["value"] == "amount"
    assert event["time"] == {"latest": ["starttime", "endtime", "storetime"]}


def test_how_it_ended_is_commented_out_where_only_the_beginning_has_a_time(source, draft):
    (source / "stays.csv").write_text(
        "subject_id,admittime,unit,survival,hours_los\n1,2020-01-01 10:00,MICU,lived,2.0\n"
    )
    text, raw = draft()
    assert raw["tables"]["stays"]["events"] == [{"code": "UNIT//{unit}"}]
    assert "      # - {melt: [hours_los]}" in text
    assert "      # - {code: 'SURVIVAL//{survival}'}" in text
    assert "# ? survival, hours_los: known only afterwards?" in text


def test_codes_without_a_time_are_switched_off_and_not_seen_from_the_beginning(source, draft):
    (source / "vitals.csv").write_text("subject_id,day,HR\n1,2020-01-01,80\n")
    (source / "icd.csv").write_text("subject_id,icd_code\n1,I21\n1,A41\n")
    (source / "people.csv").write_text("subject_id,sex,blood_group\n1,F,A\n2,M,B\n")
    text, raw = draft()
    assert raw["tables"]["icd"] is None
    assert "    # - {code: 'ICD//{icd_code}'}" in text
    assert "# ? no column looks like a time; what was known when" in text
    assert {"code": "BLOOD_GROUP//{blood_group}"} in raw["tables"]["people"]["events"]


@pytest.mark.shared_data("mimic-iii-demo")
def test_the_draft_of_mimic_iii_shows_nothing_of_the_end_at_admission():
    tables = yaml.safe_load(draft_text(DEMO))["tables"]
    for name, column in (
        ("admissions", "discharge_location"),
        ("icustays", "last_careunit"),
        ("icustays", "los"),
        ("transfers", "los"),
        ("inputevents_mv", "amount"),
        ("callout", "callout_outcome"),
    ):
        events = [e for e in tables[name]["events"] if column in str(e)]
        assert events
        assert all("latest" in event["time"] for event in events)
    assert tables["diagnoses_icd"] is tables["drgcodes"] is tables["procedures_icd"] is None


@pytest.mark.slow("drafts and imports a million rows")
@pytest.mark.shared_data("mimic-iii-demo")
def test_the_draft_of_mimic_iii_imports_most_rows_of_every_table(tmp_path):
    (tmp_path / "draft.yaml").write_text(draft_text(DEMO))
    counts = import_flat(tmp_path / "draft.yaml", DEMO, tmp_path / "out").counts
    tables = [words.partition(":")[0] for words in counts if words.endswith(": rows read")]
    assert len(tables) == 16
    read = sum(counts[f"{table}: rows read"] for table in tables)
    assert sum(counts[f"{table}: rows imported"] for table in tables) > 0.9 * read


def test_the_command_writes_a_draft_beside_the_user_and_never_over_a_file(
    command, source, tmp_path
):
    (source / "t.csv").write_text("patient_id,day,HR\n1,2020-01-01,80\n")
    code, out, _ = command("import", "flat", "--draft", source)
    assert (code, out) == (0, "mapping: source.yaml\n")
    code, _, err = command("import", "flat", "--draft", source)
    assert (code, err.strip()) == (
        2,
        "error: mapping: source.yaml exists; name another file or remove it",
    )
    code, out, _ = command("import", "flat", "source.yaml", source, "made")
    assert code == 0
    assert re.search(r"t +│ +1 │ +1 │ +0 │ +1 │", out)
    code, _, err = command("import", "flat", "source.yaml")
    assert "give MAPPING SOURCE OUT, or --draft SOURCE to begin" in err
