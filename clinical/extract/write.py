"""Writing an extract: all of it or nothing, with the exact types of the MEDS schemas."""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.tables import CODES, EVENTS, LABELS, SAMPLES, SPLITS, Table
from clinical.places import check_no_file, replacing
from clinical.unfinished import unfinished

import json
import logging
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import meds
import polars as pl
import pyarrow.parquet as pq

logger = logging.getLogger(__name__)

# The lists of dataset.json that may declare a column beyond the core ones.
DECLARATIONS = (
    "raw_source_id_columns",
    "code_modifier_columns",
    "additional_value_modality_columns",
    "site_id_columns",
    "other_extension_columns",
)


@contextmanager
def resumable_draft(out: Path, made_from: Mapping[str, Any]) -> Iterator[Path]:
    """As `draft_folder`, but an interrupted draft stays, and the same call goes on with it.

    A ClinicalError is no interruption, as the same again would end like this.

    Args:
        out: Where the folder belongs.
        made_from: What it is made from, in full; a draft of anything else is removed.

    Raises:
        ConfigError: As `draft_folder`, or another call is at work on it.
    """
    out = check_new(out)
    folder = out.with_name(f".{out.name}.import")
    with unfinished(folder, made_from, what=f"out: {out}"):
        check_new(out)  # another call may have finished it before this one was alone
        draft = folder / "extract"
        if draft.exists():
            logger.info("going on with the import that was interrupted")
        draft.mkdir(exist_ok=True)
        yield draft
        draft.rename(out)


@contextmanager
def draft_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block ends well.

    If the block raises, the draft is removed and `out` stays as it was.

    Raises:
        ConfigError: `out` exists and is not an empty folder, or lies below a file.
    """
    out = check_new(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.draft-{uuid.uuid4().hex[:8]}")
    draft.mkdir()
    try:
        yield draft
        draft.rename(out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def check_new(out: Path) -> Path:
    """The absolute place of a folder to write.

    Raises:
        ConfigError: It exists and is not an empty folder, or lies below a file.
    """
    out = Path(out).resolve()
    check_no_file(out, what="out", remedy="choose another place for the folder")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out.name} exists and is not empty; remove it or choose another folder")
    return out


def write_extract(
    root: Path,
    *,
    shards: Iterable[pl.DataFrame] | None,
    codes: pl.DataFrame,
    dataset: Mapping[str, Any],
    splits: pl.DataFrame | None = None,
    samples: pl.DataFrame | None = None,
    labels: Mapping[str, pl.DataFrame] | None = None,
) -> None:
    """Write the files of an extract into a folder, usually a `draft_folder`.

    Rows are sorted by subject and time, static ones (null time) first; rows of the same time keep
    their order. Columns beyond MEDS' own are written if `dataset` declares them, and refused else.

    Args:
        root: An existing folder.
        shards: The events, every subject in one frame only; None where `write_shard` wrote them.
        codes: A row for each code of the events.
        dataset: What goes into `dataset.json`; `meds_version` is added.
        splits: `subject_id, split`.
        samples: `subject_id, prediction_time`.
        labels: For each task its labels, written to `tasks/NAME/0.parquet`.

    Raises:
        SchemaError: A table breaks its schema, a subject is in two shards, a code is not listed.
    """
    for name in ("metadata", "data"):
        (root / name).mkdir(exist_ok=True)
    declared = [name for key in DECLARATIONS for name in dataset.get(key, [])]
    codes = _align(codes, CODES, extra=[c for c in codes.columns if c not in CODES.dtypes])
    if shards is not None:
        _write_shards(root, shards, codes["code"], declared)
    pq.write_table(CODES.to_arrow(codes.sort("code")), root / meds.code_metadata_filepath)
    _write_dataset(root / meds.dataset_metadata_filepath, dataset)
    if splits is not None:
        splits = _align(splits, SPLITS).sort("subject_id")
        pq.write_table(SPLITS.to_arrow(splits), root / meds.subject_splits_filepath)
    if samples is not None:
        samples = _align(samples, SAMPLES).sort("subject_id", "prediction_time")
        pq.write_table(SAMPLES.to_arrow(samples), root / "samples.parquet")
    for task, frame in (labels or {}).items():
        _write_labels(root / "tasks" / task, frame)


def _write_shards(
    root: Path, shards: Iterable[pl.DataFrame], codes: pl.Series, declared: list[str]
) -> None:
    seen = EVENTS.empty().select("subject_id")
    for number, shard in enumerate(shards):
        subjects = write_shard(root, number, shard, codes, declared)
        if n_again := subjects.join(seen, on="subject_id", how="semi").height:
            raise SchemaError(
                f"data/{number}.parquet: {n_again} subjects are in an earlier shard too"
            )
        seen = pl.concat([seen, subjects])
    if seen.is_empty():
        raise SchemaError("data: there are no events to write; the source has none")


def write_shard(
    root: Path, number: int, shard: pl.DataFrame, codes: pl.Series, declared: Sequence[str]
) -> pl.DataFrame:
    """Write one file of events, `data/NUMBER.parquet`.

    Args:
        root: The extract.
        number: Of the shard.
        shard: Events; rows of one time keep their order.
        codes: Those of codes.parquet.
        declared: Columns beyond MEDS' own.

    Returns:
        Its `subject_id`, each once.

    Raises:
        SchemaError: It breaks its schema, or a code is not listed.
    """
    where = f"data/{number}.parquet"
    extra = [name for name in declared if name not in EVENTS.dtypes]
    events = _align(shard, EVENTS, extra=extra, where=where)
    if "image_path" not in declared:
        if n_images := events["image_path"].count():
            raise SchemaError(
                f"{where}: {n_images} rows have an image_path; declare the column in "
                "additional_value_modality_columns of dataset.json"
            )
        events = events.drop("image_path")
    if n_unlisted := events.join(codes.to_frame("code"), on="code", how="anti").height:
        raise SchemaError(f"{where}: the codes of {n_unlisted} rows are not in codes.parquet")
    events = events.sort("subject_id", "time", nulls_last=False, maintain_order=True)
    table = EVENTS.to_arrow(events)
    meds.DataSchema.validate(table)
    (root / where).parent.mkdir(exist_ok=True)
    with replacing(root / where) as draft:
        pq.write_table(table, draft, compression="zstd")
    return events.select("subject_id").unique()


def _write_labels(folder: Path, frame: pl.DataFrame) -> None:
    aligned = _align(frame, LABELS, where=f"tasks/{folder.name}")
    # MEDS has a value column without nulls or not at all.
    used = [name for name in LABELS.dtypes if name in frame.columns]
    table = LABELS.to_arrow(aligned.select(used).sort("subject_id", "prediction_time"))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "0.parquet")


def _write_dataset(path: Path, dataset: Mapping[str, Any]) -> None:
    content = {"meds_version": meds.__version__, **dataset}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _align(
    frame: pl.DataFrame, table: Table, *, extra: Iterable[str] = (), where: str | None = None
) -> pl.DataFrame:
    where = where or table.name
    extra = list(extra)
    if unknown := [name for name in frame.columns if name not in (*table.dtypes, *extra)]:
        raise SchemaError(
            f"{where}: column {', '.join(unknown)} is not declared; declare or drop it"
        )
    aligned = table.read_types(frame.lazy(), where=where).collect()
    table.check_nulls(aligned, where=where)
    return aligned.with_columns(frame[name] for name in extra if name in frame.columns)
