"""Cohen et al.'s COVID-19 image collection: chest images with a line of metadata each.

An event's time is the row's `offset`, in days since symptoms or admission, after an arbitrary date.
A row without an offset takes its patient's earliest known one, or day 0 where none is known. The
collection is made of case reports: notes may tell how the illness ended, so it is good for testing
that real images and notes pass through, not for measuring accuracy.

Cohen et al., "COVID-19 Image Data Collection", arXiv:2006.11988, 2020.
"""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.importers.report import ImportReport
from clinical.extract.privacy import guard_import
from clinical.extract.splitting import split_by_hash
from clinical.extract.variables import code_table, count_implausible, is_implausible
from clinical.extract.write import draft_folder, write_extract
from clinical.places import check_no_file

import hashlib
import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path

import polars as pl

BASE = datetime(2000, 1, 1)
UNREAD = "todo"
"""The `finding` of a row that nobody has read yet."""
SHARES = {"train": 0.70, "tuning": 0.15, "held_out": 0.15}
NAME = "covid_chestxray"
MEASUREMENTS = (
    "temperature",
    "pO2_saturation",
    "leukocyte_count",
    "neutrophil_count",
    "lymphocyte_count",
)
# Whatever is not here never enters: above all survival, intubated, in_icu and the like, which
# describe the whole illness. Of `went_icu` and `finding` only labels are made.
COLUMNS = (
    *("patientid", "offset", "sex", "age", "went_icu", "finding", "view", "modality"),
    *("folder", "filename", "clinical_notes", *MEASUREMENTS),
)


def import_covid_chestxray(
    source: Path,
    out: Path,
    *,
    outcomes: Path | None = None,
    acknowledge_identifiers: bool = False,
) -> ImportReport:
    """Write an extract with an image, a note and a few measurements an image row.

    A patient's `subject_id` is a hash of `patientid`, which is text. The prediction time is that of
    the patient's last row; labels of `went_icu` exist where a row says Y or N. `covid_19` asks of
    every day with an image whether its finding is COVID-19 or another, which the day's notes may
    say outright; days on which rows disagree, or say "todo", have no label. An image that is
    absent is counted and its event left out; one that cannot be decoded is kept, as reading it is
    where that is counted. Splits are 70/15/15 by a hash of the subject.

    Args:
        source: A folder with `metadata.csv` and `images/`.
        out: A new or empty folder.
        outcomes: Must be None.

    Raises:
        ConfigError: A path does not exist, `out` is not empty, or `outcomes` is given.
        SchemaError: `metadata.csv` breaks its format.
    """
    if outcomes is not None:
        raise ConfigError(f"{NAME} takes no outcomes: went_icu is in metadata.csv; leave it out")
    source = Path(source)
    with draft_folder(out) as root:
        tally: Counter[str] = Counter()
        rows = _read_rows(source, tally)
        events = pl.concat(
            [
                _person_events(rows),
                _image_events(rows, source, root, tally),
                _note_events(rows, tally),
                _measurement_events(rows, tally),
            ],
            how="diagonal",
        ).sort("row", "place", maintain_order=True)
        rejected = count_implausible(events)
        events = events.filter(~is_implausible()).drop("row", "place")
        tally["impossible values left out"] = int(rejected["count"].sum())
        tally["events written"] = events.height
        samples = (
            rows.group_by("subject_id")
            .agg(pl.col("time").max().alias("prediction_time"))
            .sort("subject_id")
        )
        write_extract(
            root,
            shards=[events],
            codes=code_table(events["code"].unique()),
            dataset={
                "dataset_name": NAME,
                "etl_name": f"clinical import {NAME}",
                "license": "metadata CC BY-NC-SA 4.0, images as their row of the source says",
                "consistent_calendar": False,
                "additional_value_modality_columns": ["image_path"],
            },
            splits=split_by_hash(samples["subject_id"], SHARES),
            samples=samples,
            labels={
                "went_icu": _went_icu(rows, samples, tally),
                "covid_19": _covid_19(rows, events, tally),
            },
        )
        tally.update(guard_import(root, acknowledged=acknowledge_identifiers))
    ranges = {
        f"{code} outside {low:g} to {high:g} {unit}": count
        for code, low, high, unit, count in rejected.iter_rows()
    }
    return ImportReport(NAME, {"subjects": samples.height, **tally}, ranges)


def _read_rows(source: Path, tally: Counter[str]) -> pl.DataFrame:
    """The columns we use as text, with `row, subject_id, time`; blank and "?" are null."""
    path = source / "metadata.csv"
    check_no_file(source, what="source", remedy="give the folder that has metadata.csv")
    if not path.is_file():
        raise ConfigError(f"there is no metadata.csv in {source}; give the folder that has it")
    try:
        text = pl.read_csv(path, infer_schema_length=0, null_values=["", "?"])
    except (pl.exceptions.PolarsError, OSError):
        raise SchemaError("metadata.csv: not a complete CSV file; download it again") from None
    if absent := [name for name in COLUMNS if name not in text.columns]:
        raise SchemaError(f"metadata.csv: no column {', '.join(absent)}; download it again")
    tally["rows read"] = text.height
    named = text.select(COLUMNS).filter(pl.col("patientid").is_not_null())
    if named.is_empty():
        raise SchemaError("metadata.csv: no row has a patientid; download it again")
    tally["rows without a patientid"] = text.height - named.height
    days = pl.col("offset").cast(pl.Float64, strict=False)
    known = pl.when(days.is_finite()).then(days)
    earliest = known.min().over("patientid").fill_null(0.0)
    tally["rows without an offset"] = named.filter(known.is_null()).height
    hours = (known.fill_null(earliest) * 24).round().cast(pl.Int64)
    rows = named.with_columns(
        pl.int_range(pl.len()).alias("row"),
        pl.Series("subject_id", [_subject_id(name) for name in named["patientid"]]),
        (pl.lit(BASE).dt.cast_time_unit("us") + pl.duration(hours=hours)).alias("time"),
    )
    if rows["subject_id"].n_unique() != rows["patientid"].n_unique():
        raise SchemaError("metadata.csv: two patients have the same hash; rename one patientid")
    return rows


def _subject_id(patientid: str) -> int:
    # 52 bits, so that the id survives a tool that reads integers as doubles.
    digest = hashlib.sha256(f"{NAME}:{patientid}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 12


def _person_events(rows: pl.DataFrame) -> pl.DataFrame:
    """A static `GENDER//…` and the birth, from each patient's first row that has them."""
    sexes = rows.filter(pl.col("sex").is_not_null()).unique("subject_id", keep="first")
    gender = sexes.select(
        "subject_id",
        pl.lit(None, dtype=pl.Datetime("us")).alias("time"),
        ("GENDER//" + pl.col("sex")).alias("code"),
        "row",
        pl.lit(0).alias("place"),
    )
    age = pl.col("age").cast(pl.Float64, strict=False)
    aged = rows.filter(age.is_between(0, 130)).unique("subject_id", keep="first")
    days = (age * 365.25).round().cast(pl.Int64)
    birth = aged.select(
        "subject_id",
        (pl.lit(BASE).dt.cast_time_unit("us") - pl.duration(days=days)).alias("time"),
        pl.lit("MEDS_BIRTH").alias("code"),
        "row",
        pl.lit(1).alias("place"),
    )
    return pl.concat([gender, birth])


def _image_events(
    rows: pl.DataFrame, source: Path, root: Path, tally: Counter[str]
) -> pl.DataFrame:
    """Copy the images into the extract; one event for each row whose image exists."""
    folder = source / "images"
    (root / "images").mkdir()
    copied: dict[str, bool] = {}
    for name in rows.filter(pl.col("folder") == "images")["filename"].drop_nulls().unique():
        # A name with a folder in it could lead out of the source, or out of the extract.
        copied[name] = Path(name).name == name and (folder / name).is_file()
        if copied[name]:
            shutil.copyfile(folder / name, root / "images" / name)
    found = pl.col("filename").is_in([name for name, is_copied in copied.items() if is_copied])
    images = rows.filter((pl.col("folder") == "images") & found)
    tally["images written"] = images.height
    tally["images missing"] = rows.height - images.height
    parts = [pl.col(name).fill_null("UNKNOWN") for name in ("modality", "view")]
    return images.select(
        "subject_id",
        "time",
        pl.concat_str(pl.lit("IMAGE"), *parts, separator="//").alias("code"),
        ("images/" + pl.col("filename")).alias("image_path"),
        "row",
        pl.lit(2).alias("place"),
    )


def _note_events(rows: pl.DataFrame, tally: Counter[str]) -> pl.DataFrame:
    """The notes; the source repeats one for each image of a day, the extract has it once."""
    noted = rows.filter(pl.col("clinical_notes").is_not_null())
    notes = noted.unique(["subject_id", "time", "clinical_notes"], keep="first")
    tally["notes written"] = notes.height
    tally["notes repeated on a day"] = noted.height - notes.height
    return notes.select(
        "subject_id",
        "time",
        pl.lit("NOTE//clinical").alias("code"),
        pl.col("clinical_notes").alias("text_value"),
        "row",
        pl.lit(3).alias("place"),
    )


def _measurement_events(rows: pl.DataFrame, tally: Counter[str]) -> pl.DataFrame:
    parts = [
        rows.select(
            "subject_id",
            "time",
            pl.lit(name).alias("code"),
            pl.col(name).cast(pl.Float64, strict=False).alias("numeric_value"),
            pl.col(name).is_not_null().alias("is_given"),
            "row",
            pl.lit(4 + place).alias("place"),
        )
        for place, name in enumerate(MEASUREMENTS)
    ]
    given = pl.concat(parts).filter("is_given").drop("is_given")
    numbers = given.filter(pl.col("numeric_value").is_finite())
    tally["measurements"] = numbers.height
    tally["measurements that are no number"] = given.height - numbers.height
    return numbers


def _went_icu(rows: pl.DataFrame, samples: pl.DataFrame, tally: Counter[str]) -> pl.DataFrame:
    """Labels of the patients whose rows say Y or N, and agree."""
    said = rows.filter(pl.col("went_icu").is_in(["Y", "N"]))
    people = said.group_by("subject_id").agg(
        pl.col("went_icu").n_unique().alias("n_answers"),
        (pl.col("went_icu") == "Y").any().alias("boolean_value"),
    )
    agreed = people.filter(pl.col("n_answers") == 1)
    labels = samples.join(agreed.drop("n_answers"), on="subject_id").sort("subject_id")
    tally["labels"] = labels.height
    tally["patients who went to the ICU"] = int(labels["boolean_value"].sum())
    tally["patients whose rows disagree"] = people.height - agreed.height
    return labels


def _covid_19(rows: pl.DataFrame, events: pl.DataFrame, tally: Counter[str]) -> pl.DataFrame:
    """Labels of the days that have an image and one kind of finding."""
    days = events.filter(pl.col("image_path").is_not_null()).select("subject_id", "time").unique()
    read = rows.filter(pl.col("finding").is_not_null() & (pl.col("finding") != UNREAD))
    found = read.group_by("subject_id", "time").agg(
        pl.col("finding").str.starts_with("COVID-19").unique().alias("answers")
    )
    agreed = found.filter(pl.col("answers").list.len() == 1).join(days, on=["subject_id", "time"])
    tally["days of COVID-19 or another finding"] = agreed.height
    return agreed.select(
        "subject_id",
        pl.col("time").alias("prediction_time"),
        pl.col("answers").list.first().alias("boolean_value"),
    ).sort("subject_id", "prediction_time")
