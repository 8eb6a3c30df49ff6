"""Which labels a draw may see, and a store in which nobody sees another one.

The protocol is EHRSHOT's (Wornow et al., 2023, arXiv:2307.02028): k positives and k negatives of
train, the same of tuning, drawn again and again. Instead of k it may be a share of the labels.
"""

from clinical.cohort.store import (
    FITTED,
    REFERENCE,
    SAMPLES,
    Store,
    draft_of,
    write_manifest,
)
from clinical.errors import ConfigError
from clinical.experts.fitting import store_labels

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

Rows = NDArray[np.int64]
FEWEST_POSITIVES = 2
"""Of train, in any share: one positive alone says nothing of how positives differ."""
NEGATIVE, POSITIVE = 0, 1


@dataclass(frozen=True)
class Size:
    """How many labels are seen: so many positives and as many negatives, or a share of each.

    Attributes:
        positives: of train and of tuning each; None for a share.
        share: of the labels of train and tuning, 0 to 1; None for a number.
    """

    positives: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        if (self.positives is None) == (self.share is None):
            raise ConfigError("size of a draw: give a number of positives, or a share")
        if self.positives is not None and self.positives < 1:
            raise ConfigError(f"positives: {self.positives} is none; give 1 or more")
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"shares: {self.share:g} is not above 0 and up to 1")

    @property
    def value(self) -> float:
        """Positives of train, or the share."""
        return self.share if self.share is not None else float(self.positives or 0)

    @property
    def name(self) -> str:
        """What its files are called, and its place in a picture."""
        return f"{self.value:g}" if self.share is None else f"{100 * self.share:g}%"

    def wanted(self, there: int, *, split: str, outcome: int) -> int:
        """How many of the labels of a split and outcome, of which so many are there."""
        if self.share is None:
            return int(self.value)
        fewest = FEWEST_POSITIVES if (split, outcome) == ("train", POSITIVE) else 0
        return max(fewest, round(self.share * there))


def labelled_rows(store: Store, task: str) -> dict[tuple[str, int], Rows]:
    """(train or tuning, 0 or 1) -> the rows of a store with that label of a binary task."""
    tuning = np.concatenate([store.rows("select"), store.rows("calibrate")])
    splits = {"train": store.rows("train"), "tuning": np.sort(tuning)}
    labels = store_labels(store, task)
    return {
        (split, outcome): rows[labels[rows] == outcome]
        for split, rows in splits.items()
        for outcome in (NEGATIVE, POSITIVE)
    }


def too_few(size: Size, there: Mapping[tuple[str, int], Rows]) -> str | None:
    """Why a size cannot be drawn; None where it can."""
    for (split, outcome), rows in there.items():
        wanted = size.wanted(len(rows), split=split, outcome=outcome)
        if wanted > len(rows):
            what = "positives" if outcome == POSITIVE else "negatives"
            return f"{split} has {len(rows):,} {what}, fewer than {wanted:,}"
    return None


def draw_rows(size: Size, there: Mapping[tuple[str, int], Rows], *, seed: tuple[int, ...]) -> Rows:
    """The rows whose labels a draw sees, ascending.

    From one seed a larger draw holds every smaller one, so that sizes are compared on the same
    patients. Held-out rows are never among them, and no label of theirs has a part in the choice.

    Args:
        size: of the draw.
        there: `labelled_rows`.
        seed: of the draw: another one for each repetition.

    Raises:
        ConfigError: there are too few labels.
    """
    if why := too_few(size, there):
        raise ConfigError(f"labels: {why}; draw fewer")
    seen = []
    for place, ((split, outcome), rows) in enumerate(sorted(there.items())):
        order = np.random.default_rng([*seed, place]).permutation(rows)
        seen.append(order[: size.wanted(len(rows), split=split, outcome=outcome)])
    return np.sort(np.concatenate(seen))


def labelled_store(store: Store, rows: Rows, folder: Path) -> Store:
    """A store on the same shards in which only `rows` have labels: nobody held out has one.

    Args:
        store: as it was prepared.
        rows: whose labels are seen.
        folder: of the new store; one that is there is replaced.
    """
    seen = np.zeros(store.n_samples, dtype=bool)
    seen[rows] = True
    hidden = pl.when(pl.Series(seen)).then(pl.col("^label\\..*$"))
    with draft_of(folder) as draft:
        store.samples.with_columns(hidden).write_ipc(draft / SAMPLES)
        shutil.copyfile(store.folder / REFERENCE, draft / REFERENCE)
        if (tables := store.folder / "neighbours").is_dir():
            shutil.copytree(tables, draft / "neighbours")
        fitted = store.folder / str(store.manifest.get("fitted", FITTED))
        places = {
            "shards": [os.path.relpath(shard, folder) for shard in store.shards],
            "fitted": os.path.relpath(fitted, folder),
        }
        write_manifest(draft, {**store.manifest, **places})
    return Store.open(folder)
