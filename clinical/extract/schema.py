"""Opening a MEDS 0.4 extract: where its files are, and reading them with one set of types."""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.order import check_order
from clinical.extract.tables import (
    CODES,
    EDGES,
    EVENTS,
    LABELS,
    SAMPLES,
    SPLITS,
    collect,
    scan_file,
)
from clinical.facts_table import counted, html_of, shown_path
from clinical.places import check_file, check_no_file, parquet_files

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import meds
import polars as pl
import pyarrow.parquet as pq
from flexible_schema import SchemaValidationError, TableValidationError

USUAL_SPLITS = (meds.subject_splits_filepath, Path(meds.subject_splits_filepath).name)
EDGES_FOLDER = "edges"
UNNAMED = "unnamed"
"""The name of every extract whose dataset.json gives none."""
SPLIT_NAMES = (meds.train_split, meds.tuning_split, meds.held_out_split)


@dataclass(frozen=True)
class Extract:
    """A MEDS dataset on disk; holds no rows, so it is cheap to pass to a worker.

    Attributes:
        path: The absolute folder.
        shards: Its event files relative to `path`, such as "data/0.parquet", sorted.
        dataset_name: From `dataset.json`; "unnamed" where it has none.
        consistent_calendar: Whether times of different subjects may be compared; False unless
            `dataset.json` says so.
        metadata: All of `dataset.json`; empty where there is none.
    """

    path: Path
    shards: tuple[str, ...]
    dataset_name: str
    consistent_calendar: bool
    metadata: dict[str, Any] = field(compare=False, repr=False)

    @classmethod
    def open(cls, path: Path | str) -> "Extract":
        """Find an extract's files; no table is read.

        Raises:
            ConfigError: The folder does not exist.
            SchemaError: It has no `data/**/*.parquet`, or `dataset.json` is invalid.
        """
        root, shards = find_shards(path)
        metadata = read_dataset(root)
        return cls(
            path=root,
            shards=shards,
            dataset_name=metadata.get("dataset_name") or UNNAMED,
            consistent_calendar=metadata.get("consistent_calendar", False),
            metadata=metadata,
        )

    def __repr__(self) -> str:
        return f"Extract({str(shown_path(self.path))!r})"

    def _repr_html_(self) -> str:
        """Counts and names alone; of the events no more than the footers of their files is read."""
        n_events = sum(pq.read_metadata(self.path / shard).num_rows for shard in self.shards)
        tasks = sorted(path.name for path in (self.path / "tasks").glob("*") if path.is_dir())
        has = {
            name: (self.path / name).exists()
            for name in ("samples.parquet", meds.subject_splits_filepath, "images", EDGES_FOLDER)
        }
        calendar = "the same for all" if self.consistent_calendar else "shifted per patient"
        facts = {
            "dataset": self.dataset_name,
            "folder": str(shown_path(self.path)),
            "events": f"{n_events:,} in {counted(len(self.shards), 'file')}",
            "calendar": calendar,
            "labels": ", ".join(tasks) or "none in tasks/",
            "has": ", ".join(name for name, is_there in has.items() if is_there) or "events alone",
        }
        return html_of("Extract", facts)

    def scan(self, shard: str | None = None) -> pl.LazyFrame:
        """Events of one shard, or of all: `subject_id, time, code` and the three values.

        Absent optional columns are null, NaN is null, other columns are left out. Neither the
        order of the rows nor their nulls are checked: `read_checked` does that.

        Raises:
            SchemaError: A file is truncated, lacks a column, or has a type that cannot be aligned,
                such as a time with a zone.
        """
        if shard is None:
            return pl.concat([self.scan(name) for name in self.shards])
        if shard not in self.shards:
            raise SchemaError(f"{shard}: no such shard; the extract has {len(self.shards)} others")
        events = EVENTS.read_types(scan_file(self.path / shard, where=shard), where=shard)
        return events.with_columns(pl.col("numeric_value").fill_nan(None))

    def read_checked(self, shard: str, *, subjects: pl.Series | None = None) -> pl.DataFrame:
        """The events of one shard, whole subjects in time order, static rows first.

        Args:
            shard: One of `shards`.
            subjects: Whose events are read and checked, at least one; by default everybody's. Of a
                large file that is sorted by subject little more than theirs is in memory.

        Raises:
            SchemaError: As `scan`; or a null subject or code, rows out of order, infinite values.
        """
        rows = self.scan(shard)
        if subjects is not None:
            # The range is what a file's statistics can tell of whole groups of rows.
            among = pl.col("subject_id").is_between(subjects.min(), subjects.max())
            rows = rows.filter(among, pl.col("subject_id").is_in(subjects.unique().to_list()))
        events = collect(rows, where=shard)
        EVENTS.check_nulls(events, where=shard)
        check_order(events, where=shard)
        return events

    def subjects(self) -> pl.DataFrame:
        """Every subject with its shard: `subject_id, shard`; reads that one column only."""
        parts = [
            collect(self.scan(shard).select("subject_id").unique(), where=shard)
            .with_columns(pl.lit(shard).alias("shard"))
            .sort("subject_id")
            for shard in self.shards
        ]
        return pl.concat(parts)

    def check_subjects_apart(self) -> None:
        """Refuse an extract that has a subject in two files.

        Raises:
            SchemaError: With the count of such subjects and one of their files.
        """
        subjects = self.subjects()
        again = subjects.filter(pl.col("subject_id").is_duplicated())
        if not again.is_empty():
            last = again.sort("shard").get_column("shard").to_list()[-1]
            raise SchemaError(
                f"{last}: {again['subject_id'].n_unique()} subjects are in another file too; "
                "put all rows of a subject in one file"
            )

    def codes(self) -> pl.DataFrame:
        """`metadata/codes.parquet` (`code, description, parent_codes`), empty if absent."""
        path = self.path / meds.code_metadata_filepath
        return CODES.read(path, where=_name(self.path, path)) if path.exists() else CODES.empty()

    def splits(self, override: Path | None = None) -> pl.DataFrame | None:
        """`subject_id, split` from the metadata or from a file named by the user.

        Args:
            override: Another file of that schema, absolute or relative to the extract.

        Returns:
            One row a subject, or None where neither exists.

        Raises:
            ConfigError: `override` does not exist or is a folder.
            SchemaError: A subject is in two splits, or a split has an unknown name.
        """
        path = self.path / (override or meds.subject_splits_filepath)
        where = _name(self.path, path)
        if not path.exists():
            if override is None:
                return None
            raise ConfigError(f"splits: there is no file {override}; check the path")
        if path.is_dir():
            check_file(path, what="splits", usual=USUAL_SPLITS)
        frame = SPLITS.read(path, where=where).unique(maintain_order=True)
        if n_unknown := frame.filter(~pl.col("split").is_in(SPLIT_NAMES)).height:
            raise SchemaError(
                f"{where}: {n_unknown} subjects have a split other than {', '.join(SPLIT_NAMES)}; "
                "rename or drop them"
            )
        if n_twice := int((frame["subject_id"].value_counts()["count"] > 1).sum()):
            raise SchemaError(f"{where}: {n_twice} subjects are in two splits; keep one of them")
        return frame

    def samples(self) -> pl.DataFrame | None:
        """`subject_id, prediction_time` from `samples.parquet`, or None where there is none.

        Raises:
            SchemaError: The file breaks its schema or names a sample twice.
        """
        path = self.path / "samples.parquet"
        if not path.exists():
            return None
        frame = SAMPLES.read(path, where=path.name)
        _check_unique(frame, what="samples", where=path.name)
        return frame

    def labels(self, folder: Path) -> pl.DataFrame:
        """The labels of one task: MEDS' label columns, null where the files lack one.

        Args:
            folder: Absolute or relative to the extract; all Parquet files in it are read.

        Raises:
            ConfigError: The folder does not exist, is a file or has no Parquet file.
            SchemaError: A file breaks its schema, or a sample has two labels.
        """
        path = self.path / folder
        check_no_file(path, what="labels", remedy=f"give its folder, {folder.parent}")
        found = parquet_files(path)
        if not found:
            raise ConfigError(f"labels: there is no Parquet file in {folder}; check the path")
        frame = pl.concat([LABELS.empty(), *(_shard_of_labels(self.path, p) for p in found)])
        _check_unique(frame, what="labels", where=str(folder))
        return frame

    def edges(self, relation: str) -> pl.DataFrame | None:
        """The user's edges of a relation, `edges/<relation>.parquet`, or None where there are none.

        Returns:
            The columns of data_schemas/edges.json, a null weight as 1.

        Raises:
            SchemaError: The file breaks its schema, or a weight is not above 0 and up to 1.
        """
        path = self.path / EDGES_FOLDER / f"{relation}.parquet"
        if not path.exists():
            return None
        where = _name(self.path, path)
        frame = EDGES.read(path, where=where).with_columns(pl.col("weight").fill_null(1.0))
        # NaN compares as greater than any number.
        if n_wrong := frame.filter(~((pl.col("weight") > 0) & (pl.col("weight") <= 1))).height:
            raise SchemaError(
                f"{where}: {n_wrong} rows have a weight that is not above 0 and up to 1; "
                "scale or drop them"
            )
        return frame

    def image(self, image_path: str) -> Path:
        """The file that an `image_path` means, which need not exist.

        Raises:
            SchemaError: The path is absolute or leads out of the extract, by a link too.
        """
        # The message doesn't quote the path: file names often carry a patient's identifier.
        outside = SchemaError(
            "data: an image_path is absolute or leads out of the extract's folder; "
            "copy the image into the extract and name it relative to its root"
        )
        if "\0" in image_path or Path(image_path).is_absolute():
            raise outside
        # realpath, as Path.resolve raises on a loop of links in Python 3.11.
        root = Path(os.path.realpath(self.path))
        target = Path(os.path.realpath(root / image_path))
        if not target.is_relative_to(root):
            raise outside
        return target

    def fingerprint(self) -> str:
        """SHA-256 over names, sizes and whole contents of `data/` and `metadata/`.

        Samples, labels and images are left out: the first two choose what is read of the extract,
        and the events name the images.
        """
        total = hashlib.sha256()
        metadata = (p for p in (self.path / "metadata").rglob("*") if p.is_file())
        for path in sorted([*(self.path / shard for shard in self.shards), *metadata]):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            name = path.relative_to(self.path).as_posix()
            total.update(f"{name}\0{path.stat().st_size}\0{content}\n".encode())
        return total.hexdigest()


def find_shards(path: Path | str) -> tuple[Path, tuple[str, ...]]:
    """The absolute folder of an extract and its event files, relative to it and sorted.

    Raises:
        ConfigError: The folder does not exist, or is a file.
        SchemaError: It has no `data/**/*.parquet`.
    """
    root = Path(path).resolve()
    check_no_file(root, what="extract", remedy="give the folder that holds data/ and metadata/")
    if not root.is_dir():
        raise ConfigError(f"there is no extract at {path}; check the path")
    found = sorted(file for file in (root / "data").rglob("*.parquet") if file.is_file())
    if not found:
        raise SchemaError(
            f"{path}: no data/**/*.parquet; give the folder of a MEDS 0.4 dataset "
            "or make one with `clinical import`"
        )
    return root, tuple(file.relative_to(root).as_posix() for file in found)


def read_dataset(root: Path) -> dict[str, Any]:
    """`metadata/dataset.json`, empty where there is none.

    Raises:
        SchemaError: It is not JSON or breaks the schema.
    """
    where = meds.dataset_metadata_filepath
    path = root / where
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise SchemaError(f"{where}: not valid JSON; write it again") from None
    if not isinstance(content, dict):
        raise SchemaError(f"{where}: not a JSON object; write it as {{...}}")
    if not isinstance(content.get("consistent_calendar", False), bool):
        raise SchemaError(f"{where}: consistent_calendar is neither true nor false; make it one")
    try:
        meds.DatasetMetadataSchema.validate(content)
    except (SchemaValidationError, TableValidationError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise SchemaError(f"{where}: {reason}; follow MEDS' dataset metadata schema") from None
    return content


def _shard_of_labels(root: Path, path: Path) -> pl.DataFrame:
    """One file of labels. An empty one need not have columns: tools write such for empty shards."""
    where = _name(root, path)
    rows = scan_file(path, where=where)
    if not rows.collect_schema() or not collect(rows.select(pl.len()), where=where).item():
        return LABELS.empty()
    return LABELS.read(path, where=where)


def _check_unique(frame: pl.DataFrame, *, what: str, where: str) -> None:
    n_twice = frame.height - frame.select("subject_id", "prediction_time").n_unique()
    if n_twice:
        raise SchemaError(
            f"{where}: {n_twice} {what} repeat a subject_id and prediction_time; keep one of each"
        )


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
