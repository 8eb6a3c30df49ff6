"""A synthetic hospital with recognisable subjects, ways to alter it, and one finished run.

Not a test; loaded by path, since the test folders are no packages.
"""

import clinical
from clinical.experiment import Run

import contextlib
import fcntl
import io
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "configs" / "tiny.yaml"
FIRST = 8_123_000_000_000  # added to the subjects' numbers: nothing else contains such a string
WORD = "quixotical"  # stands in one note of one subject
TASK = "in_hospital_mortality"
OVERRIDES = [
    "modalities.images.stages=1",
    "modalities.images.patch=4",
    "pretrain.epochs=4",
    "finetune.epochs=4",
    "evaluate.resamples=20",
]
"""What makes the tiny run quick, and long enough to be interrupted in each stage."""


@dataclass(frozen=True)
class Finished:
    """A run that ended well.

    Attributes:
        extract: what it was trained on.
        out: its folder.
        screen: all that it printed or logged.
    """

    extract: Path
    out: Path
    screen: str

    @property
    def bundle(self) -> Path:
        return self.out / "bundle"

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(self.out / "predictions.parquet")


def overrides(extract: Path, out: Path, *more: str) -> list[str]:
    """Of the quick tiny run on an extract."""
    return [*OVERRIDES, f"extract={extract}", f"out={out}", *more]


def build(root: Path, *, subjects: int = 200) -> None:
    """Write the hospital: subjects from FIRST on, WORD in a visible note of a train subject."""
    clinical.synthesize(root, subjects=subjects, seed=1)
    for path in sorted(root.rglob("*.parquet")):
        frame = pl.read_parquet(path)
        if "subject_id" in frame.columns:
            frame = frame.with_columns(pl.col("subject_id") + FIRST)
        if "text_value" in frame.columns:
            splits = pl.read_parquet(root / "metadata" / "subject_splits.parquet")
            train = splits.filter(pl.col("split") == "train")["subject_id"] % FIRST + FIRST
            first = frame.with_row_index().filter(
                pl.col("text_value").is_not_null(), pl.col("subject_id").is_in(train.to_list())
            )["index"][0]
            marked = pl.int_range(pl.len()) == first
            text = pl.when(marked).then(f"{WORD} " + pl.col("text_value")).otherwise("text_value")
            frame = frame.with_columns(text.alias("text_value"))
        frame.write_parquet(path)


def alter(source: Path, target: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    """A copy of an extract with its events changed, in order again; without splits and labels."""
    shutil.copytree(source, target, copy_function=os.link)
    shutil.rmtree(target / "tasks")
    for path in (target / "metadata" / "subject_splits.parquet", target / "truth.parquet"):
        path.unlink()
    for path in sorted((target / "data").rglob("*.parquet")):
        frame = change(pl.read_parquet(path).with_row_index("place"))
        path.unlink()  # it is linked to the source's
        ordered = frame.sort("subject_id", "time", "place", nulls_last=False)
        ordered.drop("place").write_parquet(path)
    return target


def once(root: Path, name: str, make: Callable[[Path], None]) -> Path:
    """A folder made by the first test process that asks for it; the others wait and share it."""
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / f"{name}.made").exists():
            make(folder)
            (root / f"{name}.made").touch()
    return folder


def finish(extract: Path, out: Path) -> None:
    """Run the whole way, and leave beside the run folder what it printed and logged."""
    with _screen() as screen:
        evaluation = clinical.run(Run.read(TINY, overrides(extract, out)))
        screen.write(f"{evaluation}\n")
    out.with_name(f"{out.name}.screen").write_text(screen.getvalue())


@contextlib.contextmanager
def _screen() -> Iterator[io.StringIO]:
    screen = io.StringIO()
    handler = logging.StreamHandler(screen)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            yield screen
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
