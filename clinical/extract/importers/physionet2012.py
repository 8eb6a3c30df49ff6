"""PhysioNet/CinC Challenge 2012: 48 hours of one ICU stay a text file of `Time,Parameter,Value`.

The subject is the RecordID, codes are the challenge's parameter names, an event's time is the
file's `Time` (hours and minutes since admission, when the value was recorded) after an arbitrary
date.

Silva et al., "Predicting In-Hospital Mortality of ICU Patients: The PhysioNet/Computing in
Cardiology Challenge 2012", Computing in Cardiology, 2012.
"""

from clinical.errors import SchemaError
from clinical.extract.importers.members import read_members, source_name
from clinical.extract.importers.outcomes import USUAL, read_outcomes
from clinical.extract.importers.report import ImportReport
from clinical.extract.privacy import OLD, guard_import
from clinical.extract.splitting import split_by_hash
from clinical.extract.variables import code_table, count_implausible, is_implausible
from clinical.extract.write import draft_folder, write_extract
from clinical.places import check_file

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

BASE = datetime(2000, 1, 1)
HORIZON = timedelta(hours=48)
STATIC = ("Age", "Gender", "Height", "ICUType", "Weight")
SHARES = {"train": 0.85, "tuning": 0.15}
FILES_PER_SHARD = 1000
HEADER = "Time,Parameter,Value"

_RECORD = re.compile(r"\d{1,18}\.txt")


def import_physionet2012(
    source: Path,
    out: Path,
    *,
    outcomes: Path | None = None,
    acknowledge_identifiers: bool = False,
    workers: int = 1,
) -> ImportReport:
    """Write an extract from one or more sets of the challenge.

    The first row of a static descriptor (age, gender, height, ICU type, weight), if at 00:00, is a
    static event, and -1 there means missing; a later weight is a time series. Impossible values
    are left out by the ranges of `variables.json`. `samples.parquet` has every record at +48 h.
    With outcomes there are labels of `in_hospital_mortality`, and splits, 85 % `train` and 15 %
    `tuning` by a hash of the subject; nothing else of the outcomes is read.

    Args:
        source: A folder with `NUMBER.txt` files at any depth, or an archive of one.
        out: A new or empty folder.
        outcomes: `Outcomes-*.txt` with `RecordID` and `In-hospital_death`.
        acknowledge_identifiers: Whether what looks like identifiers of people may be there.
        workers: Has no use, as all of the source takes seconds.

    Raises:
        ConfigError: A path does not exist, or `out` is not empty.
        SchemaError: Rows or files break the format; with their count.
    """
    source, name = Path(source), source_name(Path(source))
    if outcomes is not None:  # before the stays are read, which takes a while
        check_file(Path(outcomes), what="outcomes", usual=USUAL)
    with draft_folder(out) as root:
        tally: Counter[str] = Counter()
        shards = list(_read_shards(source, name, tally))
        subjects = pl.concat([shard["subject_id"] for shard in shards]).unique().sort()
        events = [_to_events(shard, tally) for shard in shards]
        rejected = count_implausible(pl.concat(events))
        events = [shard.filter(~is_implausible()) for shard in events]
        tally["impossible values left out"] = int(rejected["count"].sum())
        tally["events written"] = sum(shard.height for shard in events)
        samples = pl.DataFrame({"subject_id": subjects}).with_columns(
            pl.lit(BASE + HORIZON).dt.cast_time_unit("us").alias("prediction_time")
        )
        labels = _labels(outcomes, samples, name, tally) if outcomes else None
        write_extract(
            root,
            shards=events,
            codes=code_table(pl.concat([shard["code"].unique() for shard in events])),
            dataset={
                "dataset_name": f"physionet2012-{name}",
                "etl_name": "clinical import physionet2012",
                "license": "ODC-By 1.0",
                "consistent_calendar": False,
                "additional_value_modality_columns": [],
            },
            splits=split_by_hash(subjects, SHARES) if outcomes else None,
            samples=samples,
            labels={"in_hospital_mortality": labels} if labels is not None else {},
        )
        # Of everybody over 89 the source says 90, be it one person in a part of it.
        tally.update(guard_import(root, acknowledged=acknowledge_identifiers or (OLD,)))
    return _report(f"physionet2012-{name}", len(subjects), tally, rejected)


def _read_shards(source: Path, name: str, tally: Counter[str]) -> Iterator[pl.DataFrame]:
    """Rows of the files, `subject_id, minutes, code, numeric_value`, in the order of the source.

    Reads to the end before it complains, so that the counts are those of the whole source.
    """
    problems: Counter[str] = Counter()
    seen: set[int] = set()
    batch: list[tuple[str, bytes]] = []
    n_files = 0
    for member in read_members(source, _RECORD):
        batch.append(member)
        n_files += 1
        if len(batch) == FILES_PER_SHARD:
            yield _parse(batch, seen, problems)
            batch = []
    if batch:
        yield _parse(batch, seen, problems)
    if not n_files:
        raise SchemaError(f"{name}: no file named NUMBER.txt in it; give a set of the challenge")
    if problems:
        found = "; ".join(f"{count} {what}" for what, count in problems.items())
        raise SchemaError(f"{name}: among {n_files} files, {found}; correct or remove them")
    tally["records read"] = n_files


def _parse(files: list[tuple[str, bytes]], seen: set[int], problems: Counter[str]) -> pl.DataFrame:
    lines: list[str] = []
    owner: list[int] = []
    for number, (_, content) in enumerate(files):
        # A byte that isn't UTF-8 becomes a replacement character, and its row a malformed one.
        header, *rows = content.decode("utf-8", errors="replace").split("\n")
        rows = [row.rstrip("\r") for row in rows]
        if rows and not rows[-1]:
            rows.pop()
        problems["files without the header " + HEADER] += header.rstrip("\r") != HEADER
        lines += rows
        owner += [number] * len(rows)
    frame = _fields(pl.DataFrame({"file": owner, "line": lines}, schema=_LINES))
    malformed = pl.any_horizontal(pl.col("minutes", "code", "numeric_value").is_null())
    problems["rows that are not " + HEADER] += frame.filter(malformed).height
    records = frame.filter(pl.col("code") == "RecordID").select("file", subject_id="number")
    problems["files without exactly one RecordID"] += _n_without_one(records, len(files))
    expected = pl.DataFrame({"file": range(len(files)), "stem": [int(n[:-4]) for n, _ in files]})
    renamed = records.join(expected.cast(pl.Int64), on="file")
    problems["files whose name is not their RecordID"] += renamed.filter(
        pl.col("stem") != pl.col("subject_id")
    ).height
    ids = records["subject_id"].to_list()
    problems["files of a record that has another"] += len(ids) - len(set(ids) - seen)
    seen.update(ids)
    for what in [what for what, count in problems.items() if not count]:
        del problems[what]
    joined = frame.join(records.unique("file"), on="file", how="left").sort("row")
    return joined.select("subject_id", "minutes", "code", "numeric_value")


_LINES = {"file": pl.Int64, "line": pl.String}


def _fields(frame: pl.DataFrame) -> pl.DataFrame:
    """Cut lines into `minutes, code, numeric_value`, null where a line is malformed."""
    parts = pl.col("line").str.splitn(",", 3).struct.rename_fields(["clock", "code", "text"])
    clock = r"^(\d{2,3}):([0-5]\d)$"
    hours = pl.col("clock").str.extract(clock, 1).cast(pl.Int64)
    minutes = pl.col("clock").str.extract(clock, 2).cast(pl.Int64)
    number = pl.col("text").cast(pl.Float64, strict=False)
    return (
        frame.with_columns(parts.alias("parts"))
        .unnest("parts")
        .with_columns(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
            (hours * 60 + minutes).alias("minutes"),
            pl.when(pl.col("code") != "").then("code").alias("code"),
            pl.when(number.is_finite()).then(number).alias("numeric_value"),
            pl.col("text").cast(pl.Int64, strict=False).alias("number"),
        )
    )


def _n_without_one(records: pl.DataFrame, n_files: int) -> int:
    named = records.filter(pl.col("subject_id").is_not_null())
    return n_files - int((named["file"].value_counts()["count"] == 1).sum())


def _to_events(rows: pl.DataFrame, tally: Counter[str]) -> pl.DataFrame:
    values = rows.filter(pl.col("code") != "RecordID").with_columns(
        (
            pl.col("code").is_in(STATIC)
            & (pl.col("minutes") == 0)
            & pl.struct("subject_id", "code").is_first_distinct()
        ).alias("is_static")
    )
    kept = values.filter(~(pl.col("is_static") & (pl.col("numeric_value") == -1)))
    tally["rows read"] += rows.height
    tally["rows with the RecordID"] += rows.height - values.height
    tally["static values missing (-1)"] += values.height - kept.height
    time = pl.lit(BASE).dt.cast_time_unit("us") + pl.duration(minutes="minutes")
    return kept.select(
        "subject_id",
        pl.when(~pl.col("is_static")).then(time).alias("time"),
        "code",
        "numeric_value",
    )


def _labels(outcomes: Path, samples: pl.DataFrame, name: str, tally: Counter[str]) -> pl.DataFrame:
    died = read_outcomes(Path(outcomes))
    labels = samples.join(died, on="subject_id")
    if labels.is_empty():
        raise SchemaError(
            f"{Path(outcomes).name}: none of its {died.height} records is in {name}; "
            "is it the outcome file of another set?"
        )
    tally["labels"] = labels.height
    tally["deaths"] = int(labels["boolean_value"].sum())
    tally["records without an outcome"] = samples.height - labels.height
    tally["outcomes without a record"] = died.height - labels.height
    return labels


def _report(
    dataset_name: str, n_subjects: int, tally: Counter[str], rejected: pl.DataFrame
) -> ImportReport:
    ranges = {
        f"{code} outside {low:g} to {high:g} {unit}": count
        for code, low, high, unit, count in rejected.iter_rows()
    }
    return ImportReport(dataset_name, {"subjects": n_subjects, **tally}, ranges)
