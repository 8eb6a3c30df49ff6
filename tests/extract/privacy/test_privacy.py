"""An extract is looked through whole, and what is too much stops its import and preparation."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat import import_flat
from clinical.extract.privacy import Identifiers, find_identifiers, guard_preparation
from clinical.extract.schema import Extract
from clinical.extract.validate import validate
from clinical.extract.write import write_extract

import json
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

DAY = datetime(2020, 1, 1)
SSN = "219-09-9999"


def write(
    root: Path,
    *,
    codes: tuple[str, ...] = ("HR",),
    notes: tuple[str, ...] = (),
    ages: tuple[float, ...] = (60,),
    image: str | None = None,
) -> Extract:
    """An extract with a subject for each age; the first has the codes, the notes and the image."""
    root.mkdir()
    rows = []
    for subject, age in enumerate(ages, start=1):
        birth = DAY - timedelta(days=365.25 * age + 1)
        rows += [(subject, birth, "MEDS_BIRTH", None, None), (subject, DAY, "HR", None, None)]
    rows += [(1, DAY, code, None, None) for code in codes]
    rows += [(1, DAY, "NOTE", note, None) for note in notes]
    rows += [(1, DAY, "IMAGE", None, image)] if image else []
    columns = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "text_value": pl.String,
        "image_path": pl.String,
    }
    events = pl.DataFrame(rows, schema=columns, orient="row")
    write_extract(
        root,
        shards=[events],
        codes=events.select("code").unique(),
        dataset={"dataset_name": "small", "additional_value_modality_columns": ["image_path"]},
    )
    return Extract.open(root)


def found_in(extract: Extract) -> dict[tuple[str, str], int]:
    return {(one.place, one.kind): one.count for one in find_identifiers(extract).found}


def test_notes_codes_file_names_and_ages_are_looked_at(tmp_path):
    extract = write(
        tmp_path / "x",
        codes=("SSN//219099999", "HR2"),
        notes=("well", f"SSN {SSN}, MRN 4821397", "MRN 4821398"),
        ages=(60, 93),
        image="images/MUSTER^ANNA.png",
    )
    found = find_identifiers(extract)
    assert found.scanned == {
        "codes": 6,
        "names of image files": 1,
        "notes": 3,
        "subjects": 2,
    }
    assert found_in(extract) == {
        ("codes", "social security number"): 1,
        ("names of image files", "name in a header"): 1,
        ("notes", "record number"): 2,
        ("notes", "social security number"): 1,
        ("subjects", "age over 89"): 1,
    }
    assert "219" not in repr(found)
    assert {len(one.examples) for one in found.found if one.place == "notes"} == {1}


def test_an_extract_without_identifiers_is_clean(tmp_path):
    extract = write(tmp_path / "x", notes=("resting", "a 60-year-old"), image="images/1.png")
    assert find_identifiers(extract).found == ()
    assert not [f for f in validate(extract.path).findings if f.check == "identifiers"]


def test_validate_warns_with_a_count_and_a_masked_example(tmp_path):
    extract = write(tmp_path / "x", notes=(f"SSN: {SSN}",))
    (finding,) = [f for f in validate(extract.path).findings if f.check == "identifiers"]
    assert (finding.severity, finding.count) == ("warning", 1)
    assert "such as ###-##-####;" in finding.remedy


def test_descriptions_of_codes_and_classes_of_labels_are_codes_too(tmp_path):
    extract = write(tmp_path / "x")
    codes = pl.DataFrame(
        {
            "code": ["HR", "MEDS_BIRTH"],
            "description": ["asked a@b.example.org", None],
            "parent_codes": [["NAME//Anna Muster"], None],
        }
    )
    codes.write_parquet(extract.path / "metadata" / "codes.parquet")
    (extract.path / "tasks" / "ward").mkdir(parents=True)
    labels = pl.DataFrame(
        {"subject_id": [1], "prediction_time": [DAY], "categorical_value": ["MRN 4821397"]}
    )
    labels.write_parquet(extract.path / "tasks" / "ward" / "0.parquet")
    assert found_in(extract) == {
        ("codes", "e-mail address"): 1,
        ("codes", "name in a header"): 1,
        ("codes", "record number"): 1,
    }


@pytest.mark.parametrize(
    ("ages", "count"),
    [
        ((60, 93, 94), 2),
        ((91, 91, 91, 91, 60), 0),  # the category of a source that wrote 91 for all
        ((91, 91, 91, 95, 60), 1),
        ((91, 91, 60), 2),  # too few to be one
        ((90, 91, 92, 91, 93, 94, 91, 95, 96), 9),  # people as they are
        ((300, 300, 60), 0),  # as MIMIC-III has them
    ],
)
def test_an_age_that_stands_for_all_over_89_is_nobody_s(tmp_path, ages, count):
    assert found_in(write(tmp_path / "x", ages=ages)).get(("subjects", "age over 89"), 0) == count


def test_the_age_is_that_at_the_first_event_after_birth(tmp_path):
    extract = write(tmp_path / "x", ages=(89.5,))
    events = pl.read_parquet(extract.path / "data" / "0.parquet")
    later = events.tail(1).with_columns(pl.lit(DAY + timedelta(days=3000)).alias("time"))
    pl.concat([events, later], how="vertical_relaxed").write_parquet(
        extract.path / "data" / "0.parquet"
    )
    assert found_in(extract) == {}


def test_a_code_called_age_is_asked_for_its_values(tmp_path):
    extract = write(tmp_path / "x")
    events = pl.read_parquet(extract.path / "data" / "0.parquet").with_columns(
        code=pl.when(pl.col("code") == "HR").then(pl.lit("Age")).otherwise("code"),
        numeric_value=pl.lit(94.0, pl.Float32),
    )
    events.write_parquet(extract.path / "data" / "0.parquet")
    assert found_in(extract) == {("subjects", "age over 89"): 1}


def test_one_note_in_a_thousand_is_tolerated_and_a_code_never(tmp_path):
    notes = (f"SSN {SSN}", *("rest",) * 998)
    assert find_identifiers(write(tmp_path / "few", notes=notes)).too_many()
    assert not find_identifiers(write(tmp_path / "many", notes=(*notes, "rest"))).too_many()
    (one,) = find_identifiers(write(tmp_path / "code", codes=(f"SSN//{SSN}",))).too_many()
    assert one.place == "codes"


def test_what_was_found_is_read_back_as_it_was_written(tmp_path):
    found = find_identifiers(write(tmp_path / "x", notes=(f"SSN {SSN}",)))
    found.write(tmp_path / "found.json")
    assert Identifiers.read(tmp_path / "found.json") == found
    assert SSN not in (tmp_path / "found.json").read_text()


# DICOM


def dicom(path: Path, **tags: object) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in tags.items():
        if keyword == "private":
            header.private_block(0x0041, "maker", create=True).add_new(1, "LO", value)
        else:
            setattr(header, keyword, value)
    header.Rows = header.Columns = 1
    pydicom.dcmwrite(path, header)


@pytest.mark.parametrize(
    ("tags", "kinds"),
    [
        ({"PatientName": "MUSTER^ANNA"}, {"PatientName"}),
        ({"PatientName": "Muster"}, {"PatientName"}),
        ({"PatientName": "Anonymous^Patient", "PatientID": "LIDC-0001"}, set()),
        ({"PatientName": "LIDC-0001", "PatientBirthDate": ""}, set()),
        ({"PatientBirthDate": "19500314"}, {"PatientBirthDate"}),
        ({"PatientAge": "093Y"}, {"age over 89"}),
        ({"PatientAge": "060Y"}, set()),
        ({"BurnedInAnnotation": "YES"}, {"burnt-in annotation"}),
        ({"BurnedInAnnotation": "NO"}, set()),
        ({"private": "x"}, {"private tag"}),
        ({"ImageComments": f"SSN {SSN}"}, {"social security number"}),
        ({"PatientTelephoneNumbers": "2551111"}, {"PatientTelephoneNumbers"}),
    ],
)
def test_the_header_of_a_dicom_file_is_looked_at(tmp_path, tags, kinds):
    extract = write(tmp_path / "x", image="images/1.dcm")
    (extract.path / "images").mkdir()
    dicom(extract.path / "images" / "1.dcm", **tags)
    found = find_identifiers(extract)
    assert {one.kind for one in found.found} == kinds
    assert {one.place for one in found.found} <= {"DICOM headers"}
    assert found.scanned["DICOM headers"] == 1
    for secret in ("MUSTER", "Muster", "1950", SSN, "2551111"):
        assert secret not in repr(found)


def test_every_slice_of_a_series_is_looked_at_and_damage_passed_over(tmp_path):
    extract = write(tmp_path / "x", image="images/series")
    folder = extract.path / "images" / "series"
    folder.mkdir(parents=True)
    dicom(folder / "1.dcm", PatientName="")
    dicom(folder / "2.dcm", PatientName="MUSTER^ANNA")
    (folder / "3.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 9)
    found = find_identifiers(extract)
    assert [(one.kind, one.count) for one in found.found] == [("PatientName", 1)]


def test_an_image_that_leads_out_of_the_extract_is_not_opened(tmp_path):
    dicom(tmp_path / "1.dcm", PatientName="MUSTER^ANNA")
    assert found_in(write(tmp_path / "x", image="../1.dcm")) == {}


# What is refused


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "t.csv").write_text(f"id,time,note\n1,2020-01-01,SSN {SSN}\n2,2020-01-01,rest\n")
    mapping = (
        "name: test\nsubject: id\nsplits: null\ntables:\n  t: {files: t.csv, time: time, events: "
        "[{code: NOTE, text: note}]}\n"
    )
    (tmp_path / "mapping.yaml").write_text(mapping)
    return folder


def test_an_import_with_identifiers_is_refused_and_nothing_is_left(tmp_path, source):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SchemaError, match="--acknowledge-identifiers") as raised:
        import_flat(tmp_path / "mapping.yaml", source, tmp_path / "out")
    assert "social security number: 1 of 2 notes, such as ###-##-####" in str(raised.value)
    assert SSN not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_acknowledged_import_says_what_it_found(tmp_path, source):
    report = import_flat(
        tmp_path / "mapping.yaml", source, tmp_path / "out", acknowledge_identifiers=True
    )
    assert report.counts["what looks like identifiers, notes: social security number"] == 1
    told = json.loads((tmp_path / "out" / "import" / "identifiers.json").read_text())
    assert told["scanned"] == {"codes": 1, "notes": 2, "subjects": 2}
    assert told["found"][0]["examples"] == ["###-##-####"]


def test_the_mapping_may_acknowledge_all_or_kinds(tmp_path, source):
    mapping, out = tmp_path / "mapping.yaml", tmp_path / "out"
    with pytest.raises(SchemaError, match="social security number"):
        import_flat(mapping, source, out, ["acknowledge_identifiers=[phone number]"])
    import_flat(mapping, source, out, ["acknowledge_identifiers=true"])
    kinds = ["acknowledge_identifiers=[social security number]"]
    import_flat(mapping, source, tmp_path / "kinds", kinds)
    folder = tmp_path / "store"
    folder.mkdir()
    # What somebody lets pass once is asked again; what the source has by its design is not.
    guard_preparation(Extract.open(tmp_path / "kinds"), folder, acknowledged=False)
    (folder / "identifiers.json").unlink()
    with pytest.raises(SchemaError, match="acknowledge_identifiers: true in the configuration"):
        guard_preparation(Extract.open(out), folder, acknowledged=False)
    guard_preparation(Extract.open(out), folder, acknowledged=True)


def test_the_store_remembers_what_was_found(tmp_path, source, caplog):
    import_flat(tmp_path / "mapping.yaml", source, tmp_path / "out", acknowledge_identifiers=True)
    extract = Extract.open(tmp_path / "out")
    guard_preparation(extract, tmp_path, acknowledged=True)
    (message,) = caplog.messages
    assert message == "what looks like identifiers, notes: social security number, 1"
    with pytest.raises(SchemaError, match="1 of 2 notes"):
        guard_preparation(extract, tmp_path, acknowledged=False)
    assert len(caplog.messages) == 1


@pytest.mark.shared_data("mimic-iv-demo-meds")
def test_the_open_demo_of_mimic_iv_has_nothing_to_refuse():
    shared = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
    assert find_identifiers(Extract.open(shared / "mimic-iv-demo-meds")).found == ()


@pytest.mark.shared_data("mtsamples")
def test_open_transcriptions_have_few_identifiers(tmp_path):
    shared = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
    notes = pl.read_csv(shared / "mtsamples" / "mtsamples.csv.gz")["transcription"].drop_nulls()
    found = find_identifiers(write(tmp_path / "x", notes=tuple(notes.unique().sort())))
    counts = {one.kind: one.count for one in found.found}
    assert counts == {"age over 89": 18, "phone number": 2}
    assert found.too_many() == ()


def test_the_command_line_refuses_and_takes_the_user_s_word(command, source, tmp_path):
    code, _, err = command("import", "flat", "mapping.yaml", source, "out")
    assert code == 2
    assert "social security number: 1 of 2 notes" in err
    asked = ("import", "flat", "mapping.yaml", source, "out", "--workers", "2")
    code, out, _ = command(*asked, "--acknowledge-identifiers")
    assert code == 0
    assert "what looks like identifiers" in out
    assert SSN not in out + err
