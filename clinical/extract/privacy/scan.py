"""Looking through an extract for identifiers, a shard at a time."""

from clinical.errors import SchemaError
from clinical.extract.images import quiet
from clinical.extract.privacy.found import (
    CODES,
    FILE_NAMES,
    HEADERS,
    NOTES,
    SUBJECTS,
    Identifiers,
    Tally,
)
from clinical.extract.privacy.headers import of_file
from clinical.extract.privacy.patterns import identifiers, suspicious
from clinical.extract.schema import Extract
from clinical.extract.tables import collect

from collections.abc import Iterator
from pathlib import Path

import meds
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 65_536
OLDEST_YEARS = 90
# Beyond it an age is no person's: MIMIC-III makes 300 of every age over 89.
LONGEST_YEARS = 150
DAYS_IN_A_YEAR = 365.25


def find_identifiers(extract: Extract) -> Identifiers:
    """What looks like a direct identifier in codes, notes, file names, DICOM headers and ages.

    Everything is looked at, nothing drawn; in memory are the codes and the names of images of an
    extract, three columns of a shard, or a block of its notes.

    Raises:
        SchemaError: A file is damaged or breaks its schema.
    """
    tally = Tally()
    codes: set[str] = set()
    images: set[str] = set()
    for shard in extract.shards:
        found, of_shard, paths = scan_shard(extract, shard)
        tally.add(found)
        codes.update(of_shard)
        images.update(paths)
    with quiet():
        for path in sorted(images):
            _look_at_image(extract, path, tally)
    for text in sorted(codes | set(_told_of_codes(extract))):
        tally.scanned[CODES] += 1
        tally.note(CODES, identifiers(text, is_code=True))
    return tally.result()


def scan_shard(extract: Extract, shard: str) -> tuple[Tally, list[str], list[str]]:
    """What one shard has; and its codes and images, which other shards may have too."""
    tally = Tally()
    events = extract.scan(shard)
    rows = collect(events.select("subject_id", "time", "code"), where=shard)
    codes = rows["code"].unique().drop_nulls()
    tally.scanned[SUBJECTS] += rows["subject_id"].n_unique()
    tally.ages.update(_ages_over_89(rows))
    del rows
    if len(named := codes.filter(codes.str.to_lowercase() == "age")):
        is_said = pl.col("code").is_in(named.to_list())
        said = events.filter(is_said).group_by("subject_id").agg(years=pl.max("numeric_value"))
        tally.ages.update(_over_89(collect(said, where=shard)["years"]))
    for texts in _notes(extract.path / shard, where=shard):
        tally.scanned[NOTES] += len(texts)
        for text in suspicious(texts):
            tally.note(NOTES, identifiers(text))
    paths = collect(events.select(pl.col("image_path").unique()).drop_nulls(), where=shard)
    return tally, codes.to_list(), paths["image_path"].to_list()


def _ages_over_89(rows: pl.DataFrame) -> list[int]:
    """Whole years of the subjects who are as old at their first event after birth."""
    subject, time = pl.col("subject_id"), pl.col("time")
    # In the order of an extract birth is a subject's first event with a time: few rows are looked
    # at, as all would take as long as reading them.
    is_early = subject.ne_missing(subject.shift(3)) | time.shift(3).is_null()
    is_birth = pl.col("code") == meds.birth_code
    people = (
        rows.filter(time.is_not_null() & is_early)
        .group_by("subject_id")
        .agg(birth=time.filter(is_birth).min(), first=time.filter(~is_birth).min())
    )
    return _over_89((people["first"] - people["birth"]).dt.total_days() / DAYS_IN_A_YEAR)


def _over_89(years: pl.Series) -> list[int]:
    whole = years.drop_nulls().floor().cast(pl.Int64)
    return whole.filter(whole.is_between(OLDEST_YEARS, LONGEST_YEARS)).to_list()


def _notes(path: Path, *, where: str) -> Iterator[pl.Series]:
    """The texts of a shard, a block at a time; blocks of rows without any are not read."""
    column = "text_value"
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                return
            groups = [g for g in range(file.num_row_groups) if _has_text(file, g, column)]
            for batch in file.iter_batches(ROWS, row_groups=groups, columns=[column]):
                texts = pl.Series(batch.column(0).cast(pa.large_string()))
                yield texts.drop_nulls()
    except (pa.ArrowException, OSError):
        raise SchemaError(f"{where}: a damaged Parquet file; write it again") from None


def _has_text(file: pq.ParquetFile, group: int, column: str) -> bool:
    """False where the file says that a group of rows has nulls alone."""
    described = file.metadata.row_group(group)
    for number in range(described.num_columns):
        part = described.column(number)
        if part.path_in_schema == column:
            known = part.statistics
            return not (known and known.has_null_count and known.null_count == part.num_values)
    return True


def _look_at_image(extract: Extract, name: str, tally: Tally) -> None:
    tally.scanned[FILE_NAMES] += 1
    tally.note(FILE_NAMES, identifiers(name))
    try:
        path = extract.image(name)
    except SchemaError:
        return  # told by whoever reads it
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if (found := of_file(file)) is not None:
            tally.scanned[HEADERS] += 1
            tally.note(HEADERS, found.items())


def _told_of_codes(extract: Extract) -> Iterator[str]:
    """What else is written of codes, and the classes of labels: all of it travels with a model."""
    codes = extract.codes()
    yield from codes["code"]
    yield from codes["description"].drop_nulls()
    yield from codes["parent_codes"].explode().drop_nulls()
    for path in sorted((extract.path / "tasks").rglob("*.parquet")):
        if "categorical_value" in pq.read_schema(path).names:
            classes = pl.read_parquet(path, columns=["categorical_value"]).to_series()
            yield from classes.cast(pl.String).drop_nulls().unique()
