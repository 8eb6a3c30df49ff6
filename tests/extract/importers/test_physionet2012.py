"""PhysioNet 2012: what is in the text files is in the extract, and nothing else."""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.importers import members
from clinical.extract.importers.physionet2012 import import_physionet2012
from clinical.extract.schema import Extract
from clinical.extract.validate import validate

import io
import json
import tarfile
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "physionet2012"
BASE = datetime(2000, 1, 1)
HEADER = "Time,Parameter,Value\n"

FIRST = """00:00,RecordID,900101
00:00,Age,54
00:00,Gender,0
00:00,HR,73
00:00,Height,-1
00:00,ICUType,4
00:00,Weight,-1
00:07,HR,73.5
00:07,Temp,-17.8
01:30,HR,77
01:30,HR,78
10:05,Weight,80.1
48:00,GCS,15
"""
SECOND = """00:00,RecordID,900102
00:00,Age,81
00:00,Gender,-1
00:00,Height,170.2
00:00,ICUType,2
00:00,Weight,70.8
00:00,Weight,70.4
"""
THIRD = """00:00,RecordID,900103
00:00,Age,40
00:00,Gender,1
00:00,Height,-1
00:00,ICUType,1
00:00,Weight,-1
"""
RECORDS = {"900101": FIRST, "900102": SECOND, "900103": THIRD}
OUTCOMES = """RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death
900101,27,14,9,7,1
900102,12,1,31,468,0
900104,12,1,31,468,0
"""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "set-x"
    folder.mkdir()
    for record, text in RECORDS.items():
        (folder / f"{record}.txt").write_text(HEADER + text)
    return folder


@pytest.fixture
def outcomes(tmp_path):
    path = tmp_path / "Outcomes-x.txt"
    path.write_text(OUTCOMES)
    return path


def events_of(extract: Path) -> list[tuple[object, ...]]:
    opened = Extract.open(extract)
    frames = [opened.read_checked(shard) for shard in opened.shards]
    columns = ["subject_id", "time", "code", "numeric_value"]
    return pl.concat(frames).select(columns).rows()


def at(hours: int, minutes: int) -> datetime:
    return BASE + timedelta(hours=hours, minutes=minutes)


def test_each_row_becomes_one_event_in_the_order_of_its_file(source, tmp_path):
    report = import_physionet2012(source, tmp_path / "out")
    value = np.float32
    assert events_of(tmp_path / "out") == [
        (900101, None, "Age", 54.0),
        (900101, None, "Gender", 0.0),
        (900101, None, "ICUType", 4.0),
        (900101, at(0, 0), "HR", 73.0),
        (900101, at(0, 7), "HR", 73.5),
        (900101, at(1, 30), "HR", 77.0),
        (900101, at(1, 30), "HR", 78.0),
        (900101, at(10, 5), "Weight", float(value(80.1))),
        (900101, at(48, 0), "GCS", 15.0),
        (900102, None, "Age", 81.0),
        (900102, None, "Height", float(value(170.2))),
        (900102, None, "ICUType", 2.0),
        (900102, None, "Weight", float(value(70.8))),
        (900102, at(0, 0), "Weight", float(value(70.4))),
        (900103, None, "Age", 40.0),
        (900103, None, "Gender", 1.0),
        (900103, None, "ICUType", 1.0),
    ]
    assert report.counts == {
        "subjects": 3,
        "records read": 3,
        "rows read": 26,
        "rows with the RecordID": 3,
        "static values missing (-1)": 5,
        "impossible values left out": 1,
        "events written": 17,
    }
    assert report.rejected == {"Temp outside 10 to 50 Cel": 1}
    assert report.rows()[-1] == ("impossible: Temp outside 10 to 50 Cel", 1)


def test_every_record_is_a_sample_after_48_hours_and_there_are_no_splits_or_labels(
    source, tmp_path
):
    import_physionet2012(source, tmp_path / "out")
    extract = Extract.open(tmp_path / "out")
    ids = (900101, 900102, 900103)
    assert extract.samples().rows() == [(subject, at(48, 0)) for subject in ids]
    assert extract.splits() is None
    assert not (tmp_path / "out" / "tasks").exists()
    metadata = json.loads((tmp_path / "out" / "metadata" / "dataset.json").read_text())
    assert metadata["dataset_name"] == "physionet2012-set-x"
    assert metadata["consistent_calendar"] is False
    assert metadata["additional_value_modality_columns"] == []


def test_outcomes_give_labels_and_splits_and_nothing_else(source, outcomes, tmp_path):
    import_physionet2012(source, tmp_path / "plain")
    report = import_physionet2012(source, tmp_path / "out", outcomes=outcomes)
    extract = Extract.open(tmp_path / "out")
    labels = extract.labels(Path("tasks/in_hospital_mortality"))
    assert labels.select("subject_id", "prediction_time", "boolean_value").rows() == [
        (900101, at(48, 0), True),
        (900102, at(48, 0), False),
    ]
    counts = {name: report.counts[name] for name in list(report.counts)[-4:]}
    assert counts == {
        "labels": 2,
        "deaths": 1,
        "records without an outcome": 1,
        "outcomes without a record": 1,
    }
    assert set(extract.splits()["split"]) <= {"train", "tuning"}
    assert extract.splits()["subject_id"].to_list() == [900101, 900102, 900103]
    # The length of stay and the scores of the outcome file are in no event.
    assert events_of(tmp_path / "out") == events_of(tmp_path / "plain")
    assert validate(tmp_path / "out").findings == ()


def archive_tar(source: Path, path: Path, mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(source, arcname="set-x")
    return path


def archive_zip(source: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in source.iterdir():
            archive.write(file, f"set-x/{file.name}")
    return path


def test_folder_and_archives_give_the_same_extract(source, tmp_path):
    (tmp_path / "b").mkdir()
    sources = [
        source,
        archive_tar(source, tmp_path / "b" / "set-x.tar.gz", "w:gz"),
        archive_tar(source, tmp_path / "b" / "set-x.tar", "w"),
        archive_zip(source, tmp_path / "b" / "set-x.zip"),
    ]
    names, found = set(), []
    for number, given in enumerate(sources):
        report = import_physionet2012(given, tmp_path / str(number))
        names.add(report.dataset_name)
        found.append(sorted(map(str, events_of(tmp_path / str(number)))))
    assert names == {"physionet2012-set-x"}
    assert all(rows == found[0] for rows in found)


def test_other_files_and_line_ends_make_no_difference(source, tmp_path):
    import_physionet2012(source, tmp_path / "plain")
    (source / "Outcomes-x.txt").write_text(OUTCOMES)
    (source / "._900101.txt").write_bytes(b"\0\1")
    deeper = source / "deeper"
    deeper.mkdir()
    (source / "900102.txt").unlink()
    (deeper / "900102.txt").write_bytes((HEADER + SECOND).replace("\n", "\r\n").encode())
    (source / "900103.txt").write_text((HEADER + THIRD).rstrip("\n"))
    import_physionet2012(source, tmp_path / "out")
    assert events_of(tmp_path / "out") == events_of(tmp_path / "plain")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("900104", HEADER + "00:00,RecordID,900104\n00:00,HR\n", "1 rows that are not Time,Par"),
        ("900104", HEADER + "00:00,RecordID,900104\n00:00,HR,1,2\n", "1 rows that are not Time"),
        ("900104", HEADER + "00:00,RecordID,900104\n00:00,HR,x\n0:1,HR,1\n", "2 rows that are"),
        ("900104", HEADER + "00:00,RecordID,900104\n00:00,HR,nan\n\n00:60,HR,1\n", "3 rows that"),
        ("900104", HEADER + "00:00,RecordID,900104\n00:00,,5\n00:00,HR,inf\n", "2 rows that are"),
        ("900104", "00:00,RecordID,900104\n00:00,HR,1\n", "1 files without the header Time,"),
        ("900104", "", "1 files without the header"),
        ("900104", HEADER + "00:00,HR,5\n", "1 files without exactly one RecordID"),
        ("900104", HEADER + "00:00,RecordID,900104\n" * 2, "1 files without exactly one RecordID"),
        ("900104", HEADER + "00:00,RecordID,900105\n", "1 files whose name is not their RecordID"),
        ("sub/900101", HEADER + FIRST, "1 files of a record that has another"),
    ],
)
def test_a_broken_file_is_counted_and_nobody_named(source, tmp_path, name, text, message):
    (source / "sub").mkdir()
    (source / f"{name}.txt").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SchemaError, match=f"set-x: among 4 files, .*{message}") as error:
        import_physionet2012(source, tmp_path / "out")
    assert "9001" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_record_in_two_shards_is_found(source, tmp_path, monkeypatch):
    monkeypatch.setattr("clinical.extract.importers.physionet2012.FILES_PER_SHARD", 1)
    import_physionet2012(source, tmp_path / "out")
    assert len(Extract.open(tmp_path / "out").shards) == 3
    (source / "sub").mkdir()
    (source / "sub" / "900101.txt").write_text(HEADER + FIRST)
    with pytest.raises(SchemaError, match="1 files of a record that has another"):
        import_physionet2012(source, tmp_path / "again")


def test_a_source_without_records_is_refused(tmp_path, outcomes):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SchemaError, match=r"empty: no file named NUMBER\.txt"):
        import_physionet2012(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"Outcomes-x\.txt is neither a folder nor"):
        import_physionet2012(outcomes, tmp_path / "out")


@pytest.mark.parametrize("ending", ["tar.gz", "tar", "zip"])
def test_a_damaged_archive_is_refused(source, tmp_path, ending):
    path = tmp_path / f"broken.{ending}"
    if ending == "zip":
        archive_zip(source, path)
    else:
        archive_tar(source, path, "w:gz" if ending == "tar.gz" else "w")
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"this is no archive", b""):
        path.write_bytes(damaged)
        with pytest.raises(SchemaError, match=rf"broken\.{ending}: the archive is damaged"):
            import_physionet2012(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_unpacks_without_end_is_refused(source, tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.tar.gz"
    with tarfile.open(bomb, "w:gz") as archive:
        member = tarfile.TarInfo("padding.bin")
        member.size = 200_000
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    monkeypatch.setattr(members, "MAX_TOTAL_BYTES", 100_000)
    with pytest.raises(SchemaError, match="unpacks to more than 100000 bytes"):
        import_physionet2012(bomb, tmp_path / "out")
    (source / "900103.txt").write_text(HEADER + "00:00,HR,1\n" * 2000)
    monkeypatch.setattr(members, "MAX_FILE_BYTES", 10_000)
    for path in (source, archive_zip(source, tmp_path / "large.zip")):
        with pytest.raises(SchemaError, match="a file in it has more than 10000 bytes"):
            import_physionet2012(path, tmp_path / "out")


def test_links_in_an_archive_are_not_followed(source, tmp_path):
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(source / "900101.txt", arcname="set/900101.txt")
        link = tarfile.TarInfo("set/900102.txt")
        link.type, link.linkname = tarfile.SYMTYPE, str(source / "900102.txt")
        archive.addfile(link)
        traversal = tarfile.TarInfo("../../900103.txt")
        content = (HEADER + THIRD).encode()
        traversal.size = len(content)
        archive.addfile(traversal, io.BytesIO(content))
    import_physionet2012(path, tmp_path / "out")
    assert {row[0] for row in events_of(tmp_path / "out")} == {900101, 900103}
    assert not list(tmp_path.parent.glob("*.txt"))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, ConfigError, "there is no such file"),
        ("RecordID,Died\n900101,1\n", SchemaError, "no column In-hospital_death"),
        ("", SchemaError, "not a CSV file"),
        ("RecordID,In-hospital_death\n900101,2\n900102,\n", SchemaError, "2 rows have no RecordID"),
        ("RecordID,In-hospital_death\nx,1\n", SchemaError, "1 rows have no RecordID, or an In-h"),
        ("RecordID,In-hospital_death\n900101,1\n900101,0\n", SchemaError, "1 rows repeat a Rec"),
        ("RecordID,In-hospital_death\n5,1\n", SchemaError, "none of its 1 records is in set-x"),
    ],
)
def test_broken_outcomes_are_refused_and_nobody_named(source, tmp_path, text, error, message):
    path = tmp_path / "Outcomes-y.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=message) as raised:
        import_physionet2012(source, tmp_path / "out", outcomes=path)
    assert "9001" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def naive_events(text: str) -> list[tuple[object, ...]]:
    """The documented rules, one line at a time."""
    lines = [line.split(",") for line in text.splitlines()[1:]]
    subject = next(int(value) for _, code, value in lines if code == "RecordID")
    static, dated, seen = [], [], set()
    for clock, code, value in lines:
        first = code not in seen
        seen.add(code)
        number = float(np.float32(value))
        descriptor = code in ("Age", "Gender", "Height", "ICUType", "Weight")
        if code == "RecordID":
            continue
        if descriptor and first and clock == "00:00":
            if number != -1:
                static.append((subject, None, code, number))
        else:
            hours, minutes = clock.split(":")
            dated.append((subject, at(int(hours), int(minutes)), code, number))
    return static + dated


def is_impossible(event: tuple[object, ...]) -> bool:
    limits = {"Temp": (10, 50), "pH": (6, 8.5), "Weight": (0.2, 700), "Height": (20, 280)}
    low, high = limits.get(event[2], (0, 12_000 if event[2] == "WBC" else np.inf))
    return not np.float32(low) <= event[3] <= np.float32(high)


@pytest.mark.shared_data("physionet2012")
def test_every_row_of_real_files_survives_and_only_impossible_ones_do_not(tmp_path):
    with tarfile.open(SHARED / "set-b.tar.gz") as archive:
        files = [m for m in archive if m.name.endswith(".txt")][::13]
        (tmp_path / "set-b").mkdir()
        texts = {Path(m.name).name: archive.extractfile(m).read().decode() for m in files}
    for name, text in texts.items():
        (tmp_path / "set-b" / name).write_text(text)
    expected = [e for name in sorted(texts) for e in naive_events(texts[name])]
    possible = [event for event in expected if not is_impossible(event)]
    report = import_physionet2012(tmp_path / "set-b", tmp_path / "out")
    assert len(texts) == 308
    assert events_of(tmp_path / "out") == possible
    assert report.counts["events written"] == len(possible) > 100_000
    assert report.counts["impossible values left out"] == len(expected) - len(possible) > 0


@pytest.mark.shared_data("physionet2012")
def test_the_whole_of_set_b_imports_with_its_outcomes(tmp_path):
    report = import_physionet2012(
        SHARED / "set-b.tar.gz", tmp_path / "out", outcomes=SHARED / "Outcomes-b.txt"
    )
    assert report.dataset_name == "physionet2012-set-b"
    counts = report.counts
    assert (counts["subjects"], counts["labels"], counts["deaths"]) == (4000, 4000, 568)
    assert counts["rows read"] == (
        counts["rows with the RecordID"]
        + counts["static values missing (-1)"]
        + counts["impossible values left out"]
        + counts["events written"]
    )
    extract = Extract.open(tmp_path / "out")
    dated = {
        row[0]
        for row in extract.scan()
        .filter(pl.col("time").is_not_null())
        .select("subject_id")
        .unique()
        .collect()
        .iter_rows()
    }
    assert extract.samples().height - len(dated) == 7
    assert validate(tmp_path / "out").findings == ()
