"""Some patients of an extract, in memory: to be altered and written out as an extract again."""

from clinical.errors import SchemaError
from clinical.extract.schema import EDGES_FOLDER, Extract
from clinical.extract.tables import SAMPLES, collect, scan_file
from clinical.places import parquet_files

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import meds
import polars as pl

KEYS = ["subject_id", "prediction_time"]


@dataclass(frozen=True)
class Excerpt:
    """Part of an extract.

    Attributes:
        dataset: what dataset.json says.
        codes: its codes.parquet, None where there is none.
        events: file below the extract's folder -> events, images by their names in `images`.
        samples: subject_id, prediction_time and whatever else samples.parquet has.
        labels: folder of a task -> labels.
        edges: relation -> the user's edges.
        images: image_path, or a slice below it -> the file that it means.
    """

    dataset: Mapping[str, Any]
    codes: Path | None
    events: Mapping[str, pl.DataFrame]
    samples: pl.DataFrame
    labels: Mapping[Path, pl.DataFrame]
    edges: Mapping[str, pl.DataFrame]
    images: Mapping[str, Path]

    @classmethod
    def of(
        cls,
        extract: Extract,
        samples: pl.DataFrame,
        *,
        labels: Iterable[Path] = (),
        edges: Iterable[str] = (),
    ) -> Self:
        """All that an extract holds of some samples' subjects, but no other sample of theirs.

        Args:
            extract: where from; it is not changed.
            samples: subject_id, prediction_time.
            labels: folders of labels, relative to the extract.
            edges: relations with tables of edges.
        """
        subjects = samples["subject_id"].unique()
        events = {}
        for shard in extract.shards:
            rows = extract.scan(shard).filter(pl.col("subject_id").is_in(subjects.to_list()))
            frame = collect(rows, where=shard)
            if frame.height:
                events[shard] = frame
        named = {
            name for frame in events.values() for name in frame["image_path"].unique().drop_nulls()
        }
        # Names of our own: those of the extract may lead anywhere, and may name a patient.
        names = {old: f"images/{n}{_ending(old)}" for n, old in enumerate(sorted(named))}
        renamed = pl.col("image_path").replace_strict(names, default=None, return_dtype=pl.String)
        events = {shard: frame.with_columns(renamed) for shard, frame in events.items()}
        codes = extract.path / meds.code_metadata_filepath
        return cls(
            dataset=extract.metadata,
            codes=codes if codes.exists() else None,
            events=events,
            samples=_with_other_columns(extract, samples.select(KEYS)),
            labels=_labels(extract, samples, labels),
            edges=_edges(extract, subjects, edges),
            images=_images(extract, names),
        )

    def changed(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Self:
        """With other events, in the order that MEDS asks for."""
        events = {
            shard: change(frame).sort("subject_id", "time", nulls_last=False, maintain_order=True)
            for shard, frame in self.events.items()
        }
        return replace(self, events=events)

    def only(self, subjects: Collection[int]) -> Self:
        """Of some subjects; labels and edges stay as they are."""
        chosen = pl.col("subject_id").is_in(list(subjects))
        return replace(
            self,
            events={shard: frame.filter(chosen) for shard, frame in self.events.items()},
            samples=self.samples.filter(chosen),
        )

    def altered_subjects(self, before: Self) -> set[int]:
        """Subjects of whom anything but the order differs from `before`."""
        joined = self._digests().join(before._digests(), on="subject_id", how="full", suffix="_old")
        differs = joined.filter(pl.col("digest").ne_missing(pl.col("digest_old")))
        return set(differs.select(pl.coalesce("subject_id", "subject_id_old")).to_series())

    def _digests(self) -> pl.DataFrame:
        """`subject_id, digest`."""
        everything = chain(
            self.events.values(), [self.samples], self.labels.values(), self.edges.values()
        )
        rows = [
            pl.DataFrame({"subject_id": frame["subject_id"], "digest": frame.hash_rows()})
            for frame in everything
        ]
        # Without the last bits, so that the sum fits into 64 of them.
        return pl.concat(rows).group_by("subject_id").agg((pl.col("digest") // 2**24).sum())

    def write(self, folder: Path) -> Path:
        """Write an extract into a new folder, without splits; returns it."""
        (folder / "metadata").mkdir(parents=True)
        if self.dataset:
            text = json.dumps(self.dataset, ensure_ascii=False)
            (folder / meds.dataset_metadata_filepath).write_text(text, encoding="utf-8")
        if self.codes is not None:
            shutil.copyfile(self.codes, folder / meds.code_metadata_filepath)
        for shard, frame in self.events.items():
            if frame.height:
                _write(frame, folder / shard)
        _write(self.samples, folder / "samples.parquet")
        # A subject whose events were all deleted is none of the extract, and may have no label.
        parts = [frame.select("subject_id") for frame in self.events.values()]
        for task, labels in self.labels.items():
            known = labels.join(pl.concat(parts).unique(), on="subject_id", how="semi")
            if known.height:
                filled = [c.name for c in known if c.name in KEYS or c.null_count() < known.height]
                _write(known.select(filled), folder / task / "0.parquet")
        for relation, edges in self.edges.items():
            _write(edges, folder / EDGES_FOLDER / f"{relation}.parquet")
        self._write_images(folder)
        return folder

    def _write_images(self, folder: Path) -> None:
        used = {name for frame in self.events.values() for name in frame["image_path"].unique()}
        for name, file in self.images.items():
            if (name in used or str(Path(name).parent) in used) and file.is_file():
                # A missing file is counted and passed over in scoring too.
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                _link(file, path)


def _images(extract: Extract, names: Mapping[str, str]) -> dict[str, Path]:
    """From the new name of each image, and of each slice of a series, to its file."""
    images = {}
    for old, new in names.items():
        file = extract.image(old)
        if not file.is_dir():
            images[new] = file
        elif file != extract.image(""):  # which is no image
            for child in sorted(file.iterdir()):
                # A link out of the extract is refused when it is read; here it is not followed.
                with suppress(SchemaError):
                    images[f"{new}/{child.name}"] = extract.image(str(Path(old) / child.name))
    return images


def _ending(name: str) -> str:
    """By which the kind of file is known, and no more of its name."""
    return ".nii.gz" if name.lower().endswith(".nii.gz") else Path(name).suffix


def _link(file: Path, path: Path) -> None:
    try:
        os.link(file, path)
    except OSError:  # on another disk
        shutil.copyfile(file, path)


def _write(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)


def _with_other_columns(extract: Extract, samples: pl.DataFrame) -> pl.DataFrame:
    """The samples with what else samples.parquet says of them."""
    where = "samples.parquet"
    path = extract.path / where
    if not path.exists():
        return samples
    types = [pl.col(name).cast(dtype) for name, dtype in SAMPLES.dtypes.items()]
    stored = collect(scan_file(path, where=where).with_columns(types), where=where)
    return samples.join(stored, on=KEYS, how="left")


def _labels(
    extract: Extract, samples: pl.DataFrame, folders: Iterable[Path]
) -> dict[Path, pl.DataFrame]:
    found = {}
    for folder in folders:
        # A bundle may come from anywhere; what it names is read and written inside only.
        is_inside = not folder.is_absolute() and ".." not in folder.parts
        if is_inside and parquet_files(extract.path / folder):
            found[folder] = extract.labels(folder).join(samples, on=KEYS, how="semi")
    return found


def _edges(
    extract: Extract, subjects: pl.Series, relations: Iterable[str]
) -> dict[str, pl.DataFrame]:
    tables = {name: extract.edges(name) for name in relations}
    chosen = pl.col("subject_id").is_in(subjects.to_list())
    return {name: table.filter(chosen) for name, table in tables.items() if table is not None}
