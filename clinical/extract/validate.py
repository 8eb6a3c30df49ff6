"""Everything that can be wrong with an extract, found without stopping at the first problem."""

from clinical.errors import SchemaError
from clinical.extract.findings import Finding, Validation, attempt
from clinical.extract.images import check_images
from clinical.extract.order import (
    n_infinite,
    n_subjects_apart,
    n_subjects_born_late,
    n_subjects_unordered,
)
from clinical.extract.privacy import by_design, find_identifiers, identifiers
from clinical.extract.schema import EDGES_FOLDER, SPLIT_NAMES, UNNAMED, Extract, find_shards
from clinical.extract.tables import EVENTS, SPLITS, collect, scan_file
from clinical.extract.variables import count_implausible
from clinical.places import parquet_files

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import meds
import polars as pl

_DATASET = meds.dataset_metadata_filepath
_CODES = meds.code_metadata_filepath
_SPLITS = meds.subject_splits_filepath


def validate(path: Path | str) -> Validation:
    """Check an extract file by file; a damaged file is a finding, and the others are still checked.

    Needs the memory of the largest shard and of two numbers a subject.

    Raises:
        ConfigError: The folder does not exist.
        SchemaError: It holds no `data/**/*.parquet`, so it is no extract at all.
    """
    root, shards = find_shards(path)
    findings: list[Finding] = []
    extract = attempt(findings, "dataset.json", _DATASET, lambda: Extract.open(root))
    if extract is None:  # a broken dataset.json must not hide what is wrong with the rest
        extract = Extract(root, shards, UNNAMED, False, {})
    elif "dataset_name" not in extract.metadata:
        remedy = 'the extract has no name; add "dataset_name", or others may be taken for it'
        findings.append(Finding("dataset.json", "warning", _DATASET, 1, remedy))
    codes = pl.DataFrame(schema={"code": pl.String})
    subjects = pl.DataFrame(schema={"subject_id": pl.Int64, "shard": pl.String})
    n_read = 0
    for shard in shards:
        events = _read_shard(extract, shard, findings)
        if events is None:
            continue
        n_read += 1
        findings += [*_check_shard(events, shard), *check_images(extract, events, shard)]
        codes = pl.concat([codes, events.select("code").drop_nulls()]).unique()
        found = events.select("subject_id").drop_nulls().unique()
        subjects = pl.concat([subjects, found.with_columns(pl.lit(shard).alias("shard"))])
    findings += _check_subjects_apart(subjects)
    _check_codes(extract, codes, findings)
    subjects = subjects.select("subject_id").unique()
    _check_splits(extract, subjects, findings)
    # The subjects of a file that could not be read are not unknown ones.
    everyone = subjects if n_read == len(shards) else None
    _check_samples(extract, everyone, findings)
    _check_edges(extract, everyone, findings)
    if n_read == len(shards):
        findings += _check_identifiers(extract)
    return Validation(tuple(findings))


def _read_shard(extract: Extract, shard: str, findings: list[Finding]) -> pl.DataFrame | None:
    """The shard's events with their NaNs, or None where its file or schema is broken."""
    frame = attempt(findings, "file", shard, lambda: scan_file(extract.path / shard, where=shard))
    if frame is None:
        return None
    problems = EVENTS.problems(frame.collect_schema(), where=shard)
    for problem in problems:
        message = problem.removeprefix(f"{shard}: ")
        check = "time zone" if "time zone" in message else "schema"
        findings.append(Finding(check, "error", shard, 1, message))
    if problems:
        return None
    events = EVENTS.read_types(frame, where=shard)
    return attempt(findings, "file", shard, lambda: collect(events, where=shard))


def _check_shard(events: pl.DataFrame, shard: str) -> Iterator[Finding]:
    errors = {
        "subject_id": (events["subject_id"].null_count(), "rows have no subject_id; drop them"),
        "code": (
            events.filter(pl.col("code").is_null() | (pl.col("code") == "")).height,
            "rows have no code; name or drop them",
        ),
        "subject together": (
            n_subjects_apart(events),
            "subjects have their rows in more than one place; sort by subject_id and time",
        ),
        "time order": (
            n_subjects_unordered(events),
            "subjects have rows out of time order; sort by subject_id and time, null times first",
        ),
        "finite": (
            n_infinite(events),
            "numeric_value is infinite or beyond 32 bits; make it null or drop the rows",
        ),
    }
    for check, (count, remedy) in errors.items():
        if count:
            yield Finding(check, "error", shard, count, remedy)
    if n_nan := int(events["numeric_value"].is_nan().sum()):
        remedy = "numeric_value is NaN, which is read as missing; write null"
        yield Finding("finite", "warning", shard, n_nan, remedy)
    if n_late := n_subjects_born_late(events):
        remedy = (
            "subjects are born after their first event: their age is unknown or wrong; look "
            "at the format of birth dates (%y makes 2045 of 45)"
        )
        yield Finding("birth first", "warning", shard, n_late, remedy)
    for code, low, high, unit, count in count_implausible(events).iter_rows():
        remedy = f"rows of {code} outside {low:g} to {high:g} {unit}; check the unit or drop them"
        yield Finding("plausible range", "warning", shard, count, remedy)


def _check_subjects_apart(subjects: pl.DataFrame) -> Iterator[Finding]:
    """One finding for each file with subjects that another file has too."""
    again = subjects.filter(pl.col("subject_id").is_duplicated())
    for shard, count in again.group_by("shard").len().sort("shard").iter_rows():
        remedy = "subjects are in another file too; put all rows of a subject in one file"
        yield Finding("subject in one file", "error", shard, count, remedy)


def _check_codes(extract: Extract, codes: pl.DataFrame, findings: list[Finding]) -> None:
    if not (extract.path / _CODES).exists():
        remedy = "the file is absent; list every code in it, with descriptions if there are any"
        findings.append(Finding("codes listed", "warning", _CODES, codes.height, remedy))
        return
    listed = attempt(findings, "codes listed", _CODES, extract.codes)
    if listed is None:
        return
    missing = codes.join(listed.select("code"), on="code", how="anti").sort("code")
    if not missing.is_empty():
        # A code that may name somebody is no example.
        shown = (c for c in missing["code"] if not any(identifiers(c, is_code=True)))
        such = ", such as " + ", ".join(few) if (few := [*islice(shown, 3)]) else ""
        remedy = f"codes of the data are not listed{such}; add rows for them"
        findings.append(Finding("codes listed", "error", _CODES, missing.height, remedy))
    if n_again := listed.height - listed["code"].n_unique():
        remedy = "rows repeat a code; keep one of each"
        findings.append(Finding("codes listed", "error", _CODES, n_again, remedy))


def _check_splits(extract: Extract, subjects: pl.DataFrame, findings: list[Finding]) -> None:
    path = extract.path / _SPLITS
    if not path.exists():
        remedy = "the file is absent; training needs it, or a file named by the config's splits"
        findings.append(Finding("splits", "warning", _SPLITS, subjects.height, remedy))
        return
    splits = attempt(findings, "splits", _SPLITS, lambda: SPLITS.read(path, where=_SPLITS))
    if splits is None:
        return
    names = ", ".join(SPLIT_NAMES)
    twice = splits.unique()["subject_id"].value_counts()["count"] > 1
    problems = {
        f"subjects have a split other than {names}; rename or drop them": splits.filter(
            ~pl.col("split").is_in(SPLIT_NAMES)
        ).height,
        "subjects are in two splits; keep one of them": int(twice.sum()),
        "subjects have no split; add them": subjects.join(
            splits, on="subject_id", how="anti"
        ).height,
    }
    for remedy, count in problems.items():
        if count:
            findings.append(Finding("splits", "error", _SPLITS, count, remedy))


def _check_samples(
    extract: Extract, subjects: pl.DataFrame | None, findings: list[Finding]
) -> None:
    """Samples and labels break no schema, and their subjects are among `subjects`, if given."""
    tables = {"samples.parquet": attempt(findings, "samples", "samples.parquet", extract.samples)}
    for folder in sorted(p for p in (extract.path / "tasks").glob("*") if p.is_dir()):
        name = folder.relative_to(extract.path).as_posix()
        tables[name] = _labels(extract, folder, name, findings)
    for name, table in tables.items():
        if table is None or subjects is None:
            continue
        unknown = table.join(subjects, on="subject_id", how="anti")
        if not unknown.is_empty():
            remedy = "rows are of subjects without an event; drop them or add the events"
            check = "labels" if name.startswith("tasks/") else "samples"
            findings.append(Finding(check, "error", name, unknown.height, remedy))


def _check_edges(extract: Extract, subjects: pl.DataFrame | None, findings: list[Finding]) -> None:
    """The user's edges break no schema; those who look are among `subjects`, if given."""
    for path in sorted((extract.path / EDGES_FOLDER).glob("*.parquet")):
        name = path.relative_to(extract.path).as_posix()
        edges = attempt(findings, "edges", name, partial(extract.edges, path.stem))
        if edges is None:
            continue
        if n_own := edges.filter(pl.col("subject_id") == pl.col("other_subject_id")).height:
            remedy = "rows relate a subject to itself, which is passed over; drop them"
            findings.append(Finding("edges", "warning", name, n_own, remedy))
        unknown = subjects is not None and edges.join(subjects, on="subject_id", how="anti").height
        if unknown:
            remedy = "rows are of subjects without an event; drop them or add the events"
            findings.append(Finding("edges", "warning", name, unknown, remedy))


def _check_identifiers(extract: Extract) -> Iterator[Finding]:
    try:
        found, known = find_identifiers(extract).found, by_design(extract)
    except SchemaError:
        return  # of a table that was found broken already
    for one in (one for one in found if one.kind not in known):
        remedy = f"{one.words}; take out what identifies people" + (
            ", or training is refused unless acknowledge_identifiers says true"
            if one.is_too_many
            else ""
        )
        yield Finding("identifiers", "warning", "data", one.count, remedy)


def _labels(
    extract: Extract, folder: Path, name: str, findings: list[Finding]
) -> pl.DataFrame | None:
    if not parquet_files(folder):
        remedy = "the folder has no Parquet file; write its labels or remove it"
        findings.append(Finding("labels", "warning", name, 1, remedy))
        return None
    return attempt(findings, "labels", name, lambda: extract.labels(folder))
