"""Identifiers that somebody let pass are in no artefact of a run, but for the extract itself."""

import clinical
from clinical.errors import SchemaError
from clinical.experiment import Run

from pathlib import Path

import polars as pl
import pytest

PLANTED = ("Zephyrina", "Quillworthy", "zq.93", "617-555-0143", "219-09-9999", "48213977")
NOTE = (
    "Patient Name: Zephyrina Quillworthy\nMRN 48213977, SSN 219-09-9999, phone: 617-555-0143, "
    "zq.93@ward7.example.org, DOB: 03/14/1950, 93-year-old.\n"
)
QUICK = ["pretrain.epochs=1", "finetune.epochs=1"]


@pytest.fixture(scope="module")
def planted(hospital, hospital_tools, tmp_path_factory) -> Path:
    """The hospital, a train subject of which has identifiers in each note, a code, a file name."""
    root = tmp_path_factory.mktemp("planted") / "extract"
    splits = pl.read_parquet(hospital / "metadata" / "subject_splits.parquet")
    images = pl.scan_parquet(hospital / "data" / "**" / "*.parquet").filter(
        pl.col("image_path").is_not_null()
    )
    chosen = images.join(splits.lazy().filter(pl.col("split") == "train"), on="subject_id")
    row = chosen.sort("subject_id").collect().row(0, named=True)
    subject, image = row["subject_id"], row["image_path"]
    renamed = str(Path(image).with_name("Quillworthy^Zephyrina-48213977.png"))

    def plant(events: pl.DataFrame) -> pl.DataFrame:
        is_theirs = pl.col("subject_id") == subject
        named = events.filter(is_theirs & pl.col("time").is_not_null())[5:6].with_columns(
            pl.lit("PATIENT_NAME//Quillworthy").alias("code"),
            *(pl.lit(None).alias(c) for c in ("numeric_value", "text_value", "image_path")),
        )
        text = pl.when(is_theirs).then(pl.lit(NOTE) + pl.col("text_value")).otherwise("text_value")
        path = pl.when(pl.col("image_path") == image).then(pl.lit(renamed)).otherwise("image_path")
        changed = events.with_columns(text.alias("text_value"), path.alias("image_path"))
        return pl.concat([changed, named], how="vertical_relaxed")

    hospital_tools.alter(hospital, root, plant)
    for name in ("tasks", "metadata"):
        for path in (hospital / name).rglob("*.parquet"):
            target = root / path.relative_to(hospital)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.write_bytes(path.read_bytes())
    (root / image).rename(root / renamed)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name; of tables what they hold, as it may be compressed."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found[str(path.relative_to(folder))] = path.read_bytes()
        if path.suffix == ".parquet":
            found[f"{path.relative_to(folder)} read"] = repr(pl.read_parquet(path).rows()).encode()
    return found


def telling(texts: dict[str, bytes]) -> list[tuple[str, str]]:
    return [
        (name, word) for name, text in texts.items() for word in PLANTED if word.encode() in text
    ]


def test_planted_identifiers_are_in_the_extract_and_found_by_the_test(planted):
    assert {word for _, word in telling(contents(planted / "data"))} == set(PLANTED)


def test_an_extract_with_identifiers_is_not_prepared(planted, hospital_tools, tmp_path):
    run = Run.read(hospital_tools.TINY, hospital_tools.overrides(planted, tmp_path / "run"))
    with pytest.raises(SchemaError) as raised:
        clinical.run(run)
    message = str(raised.value)
    for kind in ("name in a header", "phone number", "record number", "e-mail", "security"):
        assert kind in message
    assert not [word for word in PLANTED if word in message]
    assert not (tmp_path / "run" / "store").exists()


def test_nothing_that_a_run_leaves_or_says_has_a_planted_identifier(
    planted, hospital_tools, tmp_path, caplog, capsys
):
    out = tmp_path / "run"
    overrides = hospital_tools.overrides(planted, out, "acknowledge_identifiers=true", *QUICK)
    with caplog.at_level("INFO"):
        evaluation = clinical.run(Run.read(hospital_tools.TINY, overrides))
        clinical.report(out, extract=planted)
        clinical.score(out / "bundle", planted, out=tmp_path / "run" / "again.parquet")
        found = clinical.validate(planted)
    printed = capsys.readouterr()
    texts = contents(out)
    assert {"report.html", "store/identifiers.json", "again.parquet"} <= set(texts)
    said = {
        "log": caplog.text,
        "screen": printed.out + printed.err,
        "evaluation": f"{evaluation}",
        "validation": found.to_json(),
    }
    assert "what looks like identifiers" in said["log"]
    assert "identifiers" in said["validation"]
    assert telling(texts | {name: text.encode() for name, text in said.items()}) == []
