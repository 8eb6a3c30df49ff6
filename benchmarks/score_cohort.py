"""How fast a cohort is scored, and in how much memory, whatever its size.

    python benchmarks/score_cohort.py runs/benchmark-cohort --stays 10000 --stays 100000

Trains one two-axis network with events and static data on 800 synthetic people, and scores extracts
that are copies of 2,000 others, 1,000 stays a file, each in a process of its own: `clinical score`
from the extract to the file, and apart from it a store that is prepared already.
"""

import clinical

import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import polars as pl
import torch
import typer
from measuring import measured
from synthetic_hospital import CONFIG

SUBJECTS, A_FILE = 2000, 1000
NETWORK = [
    "modalities={events: {encoder: two_axis}, static: {encoder: mlp}}",
    "graph.relations={similar: {k: 16}}",
    "pretrain.objectives={values: 1.0}",
    "pretrain.epochs=1",
    "finetune.epochs=1",
    "evaluate.resamples=20",
]


def train(out: Path) -> Path:
    """The bundle, made once."""
    run = out / "run"
    if not (run / "bundle" / "manifest.json").exists():
        if not (out / "train").exists():
            clinical.synthesize(out / "train", subjects=800, seed=1)
        own = [f"extract={out / 'train'}", f"out={run}", "overwrite=true"]
        clinical.run(clinical.Run.read(CONFIG, [*own, *NETWORK]))
    return run / "bundle"


def copies(out: Path, stays: int) -> Path:
    """An extract of so many stays: numbers, static data and labels of the same people again."""
    from clinical.extract.write import write_extract

    folder = out / f"stays-{stays}"
    if folder.exists():
        return folder
    if not (out / "people").exists():
        clinical.synthesize(out / "people", subjects=SUBJECTS, seed=2)
    events = pl.read_parquet(out / "people" / "data" / "**" / "*.parquet")
    events = events.filter(pl.col("text_value").is_null() & pl.col("image_path").is_null())
    samples = pl.read_parquet(out / "people" / "samples.parquet").sort("subject_id")
    samples = samples.unique("subject_id", keep="first", maintain_order=True)

    def part(number: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        rows = [(number * A_FILE + n) % samples.height for n in range(A_FILE)]
        chosen = samples[rows]
        shifted = pl.col("subject_id") + 10**6 * (number + 1)
        mine = events.join(chosen.select("subject_id"), on="subject_id", how="semi")
        return mine.with_columns(shifted), chosen.with_columns(shifted)

    n_files = stays // A_FILE
    folder.mkdir(parents=True)
    write_extract(
        folder,
        shards=(part(number)[0].drop("image_path") for number in range(n_files)),
        codes=events.select("code").unique(),
        dataset={"dataset_name": "copies"},
        samples=pl.concat([part(number)[1] for number in range(n_files)]),
    )
    return folder


def score(bundle: Path, extract: Path, out: Path, threads: int) -> None:
    """From the extract to the file."""
    from clinical.score_file import score_extract

    score_extract(bundle, extract, out=out, threads=threads)


def prepare(bundle: Path, extract: Path, work: Path) -> None:
    """Leave a store."""
    with clinical.Predictor.load(bundle).prepared(extract, work=work):
        pass


def from_store(bundle: Path, store: Path, threads: int) -> None:
    """Score a store that is there, in portions, and say how fast."""
    from clinical.cohort.store import Store
    from clinical.predictor.stream import PORTION

    torch.set_num_threads(1)
    predictor, opened = clinical.Predictor.load(bundle), Store.open(store)
    rows = [
        range(start, min(start + PORTION, opened.n_samples))
        for start in range(0, opened.n_samples, PORTION)
    ]
    predictor.score_store(opened, pd.RangeIndex(len(rows[0])).to_numpy())
    start, busy = time.perf_counter(), time.process_time()
    for part in rows:
        predictor.score_store(opened, pd.Index(part).to_numpy(), at_once=threads)
    seconds, core_seconds = time.perf_counter() - start, time.process_time() - busy
    print(
        f"from a prepared store: {opened.n_samples / seconds:,.0f} stays a second, "
        f"{opened.n_samples / core_seconds:,.0f} a second of a core",
        flush=True,
    )


def main(
    out: Path,
    stays: Annotated[list[int], typer.Option()] = [10_000, 100_000],  # noqa: B006
    threads: int = 2,
) -> None:
    """Print what each extract took."""
    bundle = train(out)
    first = copies(out, stays[0])
    if not (out / "store").exists():
        prepare(bundle, first, out / "store")
    measured(from_store, bundle, out / "store", threads)
    for n in stays:
        file = out / f"scores-{n}.parquet"
        cost = measured(score, bundle, copies(out, n), file, threads)
        print(
            f"{n:,} stays: {cost.seconds:,.0f} s ({cost.core_seconds:,.0f} s of cores), "
            f"{n / cost.seconds:,.0f} stays a second, at most {cost.peak_mb:,.0f} MB",
            flush=True,
        )
        assert len(pd.read_parquet(file)) == n


if __name__ == "__main__":
    typer.run(main)
