"""The mapping of the chest images: images, notes and measurements enter, outcomes do not."""

from clinical.errors import ClinicalError, ConfigError
from clinical.extract.importers import IMPORTERS
from clinical.extract.schema import Extract
from clinical.extract.validate import validate

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

import_covid_chestxray = IMPORTERS["covid_chestxray"]
SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "covid-chestxray"
BASE = datetime(2000, 1, 1)

# One line an image, blank where a row says nothing; the last three columns must never enter.
ROWS = """\
patientid,offset,sex,age,went_icu,temperature,pO2_saturation,leukocyte_count,neutrophil_count,\
lymphocyte_count,view,modality,folder,filename,clinical_notes,finding,survival,intubated
p1,0,M,60,Y,38.5,,,,,PA,X-ray,images,a.jpg,"Cough, fever.",COVID-19,N,Y
p1,0,M,60,,380,,,,,L,X-ray,images,b.jpg,"Cough, fever.",COVID-19,N,Y
p1,3,M,60,Y,,91,x,,0.8,AP Supine,X-ray,images,c.jpg,Worse.,COVID-19,N,Y
p1,,M,60,,,,,,,Axial,CT,images,d.jpg,,COVID-19,N,Y
p2b,?,,?,N,,,,,,?,X-ray,images,e.jpg,"A ""quoted"" note
on two lines",Pneumonia,Y,N
p3,-2,F,,Would have been stated,,,,,,PA,X-ray,images,gone.jpg,Well.,No Finding,?,?
p4,1,F,30,Y,,,,,,PA,X-ray,images,../secret.jpg,,todo,,
p4,2,F,30,N,,,,,,PA,X-ray,volumes,a.jpg,,todo,,
"""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    (folder / "metadata.csv").write_text(ROWS)
    for name in "abde":
        Image.new("L", (8, 8), ord(name)).save(folder / "images" / f"{name}.jpg")
    (folder / "images" / "c.jpg").write_bytes(b"no image")
    (folder / "secret.jpg").write_bytes(b"outside of images")
    return folder


@pytest.fixture
def out(source, tmp_path):
    import_covid_chestxray(source, tmp_path / "out")
    return tmp_path / "out"


def day(offset: float) -> datetime:
    return BASE + timedelta(days=offset)


def people(out: Path) -> list[list[tuple[object, ...]]]:
    """Each subject's events without its id, ordered by their text so that tests can find them."""
    events = Extract.open(out).read_checked("data/0.parquet")
    groups = [group.drop("subject_id").rows() for _, group in events.group_by("subject_id")]
    return sorted(groups, key=lambda rows: -len(rows))


def test_a_row_becomes_an_image_a_note_and_its_measurements_at_its_day(out):
    first = people(out)[0]
    assert first == [
        (None, "GENDER//M", None, None, None),
        (datetime(1940, 1, 1), "MEDS_BIRTH", None, None, None),
        (day(0), "IMAGE//X-ray//PA", None, None, "images/a.jpg"),
        (day(0), "IMAGE//X-ray//L", None, None, "images/b.jpg"),
        (day(0), "IMAGE//CT//Axial", None, None, "images/d.jpg"),
        (day(0), "NOTE//clinical", None, "Cough, fever.", None),
        (day(0), "temperature", 38.5, None, None),
        (day(3), "IMAGE//X-ray//AP Supine", None, None, "images/c.jpg"),
        (day(3), "NOTE//clinical", None, "Worse.", None),
        (day(3), "pO2_saturation", 91.0, None, None),
        (day(3), "lymphocyte_count", pytest.approx(0.8), None, None),
    ]


def test_what_is_unknown_is_absent_and_an_unknown_day_is_day_zero(out):
    rows = next(rows for rows in people(out) if "quoted" in str(rows))
    assert rows == [
        (day(0), "IMAGE//X-ray//UNKNOWN", None, None, "images/e.jpg"),
        (day(0), "NOTE//clinical", None, 'A "quoted" note\non two lines', None),
    ]


def test_outcomes_never_become_events(out):
    events = Extract.open(out).read_checked("data/0.parquet")
    kinds = {code.split("//")[0] for code in events["code"]}
    measured = {"temperature", "pO2_saturation", "lymphocyte_count"}
    assert kinds == {"GENDER", "MEDS_BIRTH", "IMAGE", "NOTE", *measured}
    written = "".join(events["code"]) + "".join(events["text_value"].drop_nulls())
    assert not {word for word in ("COVID", "Pneumonia", "todo", "icu") if word in written}


def test_labels_are_the_answers_yes_and_no_at_the_day_of_the_last_row(out):
    extract = Extract.open(out)
    assert sorted(extract.samples()["prediction_time"]) == [day(-2), day(0), day(2), day(3)]
    labels = extract.labels(Path("tasks/went_icu"))
    found = labels.select("prediction_time", "boolean_value").sort("prediction_time").rows()
    # The fourth patient's rows contradict each other, the third's say nothing.
    assert found == [(day(0), False), (day(3), True)]
    assert extract.splits()["subject_id"].to_list() == extract.samples()["subject_id"].to_list()


def test_a_day_with_an_image_is_labelled_by_its_finding_unless_nobody_read_it(out):
    labels = Extract.open(out).labels(Path("tasks/covid_19"))
    found = labels.select("prediction_time", "boolean_value").sort(
        "prediction_time", "boolean_value"
    )
    # Of the fourth patient nobody has read the image; the third's was read, but is not there.
    assert found.rows() == [(day(-2), False), (day(0), False), (day(0), True), (day(3), True)]


def test_a_day_on_which_findings_disagree_has_no_label(source, tmp_path):
    text = (source / "metadata.csv").read_text().replace("Worse.,COVID-19", "Worse.,Pneumonia")
    (source / "metadata.csv").write_text(text.replace('fever.",COVID-19', 'fever.",Influenza', 1))
    import_covid_chestxray(source, tmp_path / "again")
    labels = Extract.open(tmp_path / "again").labels(Path("tasks/covid_19"))
    found = labels.select("prediction_time", "boolean_value").sort("prediction_time").rows()
    assert found == [(day(-2), False), (day(0), False), (day(3), False)]


def test_images_are_copied_and_missing_ones_counted_and_damaged_ones_kept(source, out, tmp_path):
    assert sorted(p.name for p in (out / "images").iterdir()) == [f"{n}.jpg" for n in "abcde"]
    for name in "abcde":
        copied = (out / "images" / f"{name}.jpg").read_bytes()
        assert copied == (source / "images" / f"{name}.jpg").read_bytes()
    counts = import_covid_chestxray(source, tmp_path / "again").counts
    assert counts["subjects"] == 4
    assert counts["events written"] == 17
    assert counts["static events, births and deaths that repeat another"] == 9
    assert counts["images"] == 5
    assert counts["went_icu: labels"] == 2
    assert counts["went_icu: labels left out, as rows of one time differ"] == 1
    assert counts["rows: rows read"] == counts["rows: rows imported"] == 8
    assert counts["rows: cells left out, no such image"] == 1
    assert counts["rows: cells left out, the image's path leads out of the source"] == 1
    assert counts["rows: cells left out, the value is no number"] == 1
    assert counts["rows: cells left out, the value is outside the plausible range"] == 1
    (finding,) = validate(out).findings
    assert (finding.check, finding.severity, finding.count) == ("images readable", "warning", 1)


def test_a_subject_has_the_same_id_in_any_part_of_the_collection(source, out, tmp_path):
    header, *rows = ROWS.splitlines(keepends=True)
    (source / "metadata.csv").write_text(header + "".join(rows[3:]))
    import_covid_chestxray(source, tmp_path / "part")
    whole, part = Extract.open(out), Extract.open(tmp_path / "part")
    assert set(part.samples()["subject_id"]) == set(whole.samples()["subject_id"])
    assert max(whole.samples()["subject_id"]) < 2**53
    assert part.splits().equals(whole.splits())


def test_an_outcome_file_has_no_use(source, tmp_path):
    with pytest.raises(ConfigError, match="covid_chestxray takes no outcomes"):
        import_covid_chestxray(source, tmp_path / "out", outcomes=source / "metadata.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROWS.replace("went_icu", "icu").replace("offset", "day"), "has no column offset"),
        (ROWS.splitlines()[0] + "\n", "no row gives an event"),
        ("", "is empty"),
    ],
)
def test_broken_metadata_is_refused_and_nothing_is_left(source, tmp_path, text, message):
    (source / "metadata.csv").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ClinicalError, match=message):
        import_covid_chestxray(source, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.shared_data("covid-chestxray")
def test_the_real_collection_imports_whole(tmp_path):
    report = import_covid_chestxray(SHARED, tmp_path / "out")
    counts = report.counts
    assert (counts["subjects"], counts["rows: rows read"], counts["images"]) == (198, 396, 396)
    source = pl.read_csv(SHARED / "metadata.csv", infer_schema_length=0)
    events = Extract.open(tmp_path / "out").read_checked("data/0.parquet")
    notes = set(source["clinical_notes"].drop_nulls()) - {"?"}
    assert set(events["text_value"].drop_nulls()) == notes
    assert set(events["image_path"].drop_nulls()) == {f"images/{n}" for n in source["filename"]}
    said = source.filter(pl.col("went_icu").is_in(["Y", "N"]))["patientid"].n_unique()
    assert counts["went_icu: labels"] == said
    assert validate(tmp_path / "out").findings == ()
