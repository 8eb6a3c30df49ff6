"""The prepared store of a run: a folder of memory-mapped arrays, complete or not there.

store.json         what it was made from, counts, sizes; no subject identifier
samples.arrow      subject_id, prediction_time, split, the columns of labels (`labels.py`),
                   present.<modality>, reason
shard-00000/       one folder a shard, the arrays of every modality
identifiers.json   of a run to train: what looks like identifiers in the extract, masked
reference.arrow    the samples that the graph may look at; row = row of the embedding memory
neighbours/        one table a relation: rows [N, K] of the memory, weight [N, K]; where edges exist
                   through codes also those and their parts of the weight, [N, K, S]
fitted/            what was learned from train
embedded/          a store of its own on the same shards, with the edges that a pretrained network
                   chooses
context/           a store of its own: unlabelled contemporaries of another extract
"""

from clinical.cohort.columns import Array, Column, Columns, Ragged, open_columns, write_table
from clinical.cohort.fitted import Fitted, read_statistics
from clinical.errors import ConfigError, SchemaError
from clinical.facts_table import counted, html_of

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = [
    "Array",
    "Column",
    "Columns",
    "Ragged",
    "Store",
    "draft_of",
    "open_columns",
    "write_manifest",
    "write_table",
]

FORMAT_VERSION = 6
MANIFEST = "store.json"
SAMPLES = "samples.arrow"
REFERENCE = "reference.arrow"
FITTED = "fitted"
CONTEXT = "context"
OWN_CONTEXT = "own"
"""Where the context is, if not in a folder beside or below the store."""
_SHOWN = {
    "samples": "splits",
    "labels": "labels",
    "modalities": "what is visible",
    "neighbours": "with neighbours by",
}
LEARNING = ("train", "select", "calibrate")


@dataclass(frozen=True)
class Store:
    """A prepared store; opening it reads `store.json` alone."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a complete store.

        Raises:
            SchemaError: There is none, it is unfinished or of another format version.
        """
        folder = Path(folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SchemaError(f"{folder}: holds no complete store; prepare it first") from error
        if manifest.get("format_version") != FORMAT_VERSION:
            raise SchemaError(f"{folder}: a store of another version; remove it and prepare again")
        return cls(folder, manifest)

    def _repr_html_(self) -> str:
        counts = self.counts
        facts = {
            "dataset": str(self.manifest["dataset_name"]),
            "samples": f"{self.n_samples:,} in {counted(len(self.manifest['shards']), 'shard')}",
            **{
                named: ", ".join(f"{what} {n:,}" for what, n in counts[group].items())
                for group, named in _SHOWN.items()
                if counts.get(group)
            },
        }
        return html_of("Prepared cohort", facts)

    @property
    def fingerprint(self) -> str:
        """Of the extract."""
        return str(self.manifest["extract_fingerprint"])

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What the preparation met, in named groups.

        `samples` (by split), `modalities` (samples per combination of present ones, such as
        "events+static"), `labels` (`<task>: positive` and so on), `neighbours` (samples with at
        least one, by relation), and one group a modality with its `visible_events` (once for each
        sample that sees them) and what it cut or left out.
        """
        counts: dict[str, dict[str, int]] = self.manifest["counts"]
        return counts

    @property
    def sizes(self) -> dict[str, dict[str, Any]]:
        """Modality -> all that its encoder needs to be built."""
        sizes: dict[str, dict[str, Any]] = self.manifest["sizes"]
        return sizes

    @property
    def shards(self) -> list[Path]:
        """The folders of the modalities' arrays, in the order of the samples."""
        return [self.folder / name for name in self.manifest["shards"]]

    @cached_property
    def samples(self) -> pl.DataFrame:
        """One row a sample; see the module's list of columns."""
        return pl.read_ipc(self.folder / SAMPLES)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """[N] something is known of the sample for at least one task."""
        known = pl.any_horizontal(pl.col("^label\\..*$").is_not_null())
        return self.samples.select(known).to_series().to_numpy()

    @property
    def n_samples(self) -> int:
        """N."""
        return int(self.manifest["n_samples"])

    def rows(self, split: str | None) -> NDArray[np.int64]:
        """The rows of a split, ascending; of all samples if None.

        A sample with nothing visible is left out of train, select and calibrate, where nothing
        could be learned from it; in held_out it stays, to get its null score.
        """
        wanted = pl.lit(True) if split is None else (pl.col("split") == split).fill_null(False)
        if split in LEARNING:
            wanted = wanted & pl.col("reason").is_null()
        return np.flatnonzero(self.samples.with_columns(kept=wanted)["kept"].to_numpy())

    @cached_property
    def reference_rows(self) -> NDArray[np.int64]:
        """[N_ref] rows of the samples in the embedding memory, in its order; none when scoring."""
        columns = open_columns([self.folder / REFERENCE])
        return columns["row"].take(np.arange(columns.n_rows))

    def neighbours(self, relation: str) -> Columns:
        """The edges of one relation.

        `rows [N, K]` int64 (-1 = none), `weight [N, K]` float32, and where edges exist through
        codes `codes [N, K, S]` int32 (-1 = none) and `parts [N, K, S]` float32 of the weight.
        """
        return open_columns([self.neighbours_path(relation)])

    def neighbours_path(self, relation: str) -> Path:
        """The file of one relation's edges."""
        return self.folder / "neighbours" / f"{relation}.arrow"

    @cached_property
    def fitted(self) -> Fitted:
        """What was learned from train, here or in the run that trained the model."""
        return Fitted.read(self._fitted)

    @cached_property
    def statistics(self) -> dict[str, dict[str, Any]]:
        """Of `fitted` what the modalities learned, without what is known of the references."""
        return read_statistics(self._fitted)

    @property
    def _fitted(self) -> Path:
        return self.folder / str(self.manifest.get("fitted", FITTED))

    @cached_property
    def context(self) -> "Store | None":
        """The store of contemporaries: neighbour row N_ref + i is its row i.

        It is this store itself where an extract is its own context, and None where there is none.
        """
        where = self.manifest["context"]
        if where is None:
            return None
        return self if where == OWN_CONTEXT else Store.open(self.folder / where)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write what makes the store in a folder complete."""
    text = json.dumps(manifest, ensure_ascii=False, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends well.

    Raises:
        ConfigError: `folder` holds something that is no store.
    """
    if folder.exists() and not (folder.is_dir() and _is_ours(folder)):
        raise ConfigError(f"{folder}: holds something else than a store; choose another folder")
    draft, old = (folder.with_name(f".{folder.name}.{what}") for what in ("draft", "old"))
    for leftover in (draft, old):  # of a killed run
        shutil.rmtree(leftover, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or not any(folder.iterdir())
