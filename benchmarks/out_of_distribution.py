"""Whether stays unlike those of train are told apart, and drifted cohorts, synthetic hospital.

    python benchmarks/out_of_distribution.py runs/benchmark-typicality --subjects 13200

Trains configs/demo.yaml, and scores people generated apart: as they are, and in copies of their
extract in which something is wrong with every stay. A stay's typicality should set the copies apart
from the originals (AUROC, subjects resampled) and flag originals as often as it says. Beside it
stand distances in the trunk's space (the fused summary, by Mahalanobis and to the tenth nearest
train stay), and whether `drift` warns of the cohort. Finished parts are not run again.
"""

import clinical
from clinical.extract.synthetic.render_events import PANELS
from clinical.extract.synthetic.render_images import CODE as IMAGE

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import typer
from PIL import Image, ImageOps
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from synthetic_hospital import CONFIG, synthesize_once

Change = Callable[[pl.DataFrame], pl.DataFrame]
KEYS = ["subject_id", "prediction_time"]
RESAMPLES = 200
OLDEST = 15
CHILDREN = pl.DataFrame(
    {
        "age": [0, 2, 5, 10, 15],
        "HR": [1.74, 1.55, 1.34, 1.15, 1.07],
        "RespRate": [2.75, 1.60, 1.40, 1.19, 1.03],
        "SysABP": [0.60, 0.78, 0.83, 0.88, 0.95],
        "DiasABP": [0.65, 0.80, 0.88, 0.92, 0.97],
        "Creatinine": [0.40, 0.35, 0.45, 0.60, 0.80],
    }
)
"""An adult's values times these are a child's. Heart and breathing rates follow the medians of
Fleming et al. 2011 (https://doi.org/10.1016/S0140-6736(10)62226-X), the others are rough."""


def fahrenheit(events: pl.DataFrame) -> pl.DataFrame:
    """Every temperature in another unit."""
    value, is_it = pl.col("numeric_value"), pl.col("code") == "Temp"
    return events.with_columns(
        pl.when(is_it).then(value * 1.8 + 32).otherwise(value).cast(pl.Float32).name.keep()
    )


def without(codes: list[str]) -> Change:
    """Some codes never recorded."""
    return lambda events: events.filter(~pl.col("code").is_in(codes))


def children(*, in_age: bool, in_values: bool) -> Change:
    """Every subject a child, by date of birth or by vital signs and creatinine, or both."""

    def change(events: pl.DataFrame) -> pl.DataFrame:
        subjects = events["subject_id"].unique().sort()
        draws = np.random.default_rng(int(subjects[0]))
        age = pl.Series("age", draws.uniform(0.1, OLDEST, len(subjects)))
        is_birth = pl.col("code") == "MEDS_BIRTH"
        first = pl.col("time").filter(~is_birth).min().over("subject_id")
        born = (first - pl.duration(days=(pl.col("age") * 365.25).cast(pl.Int64))).dt.truncate("1d")
        ages = pl.DataFrame({"subject_id": subjects, "age": age})
        frame = events.join(ages, on="subject_id", how="left", maintain_order="left")
        if in_age:
            frame = frame.with_columns(time=pl.when(is_birth).then(born).otherwise("time"))
        if in_values:
            factor = np.ones(frame.height)
            for code in CHILDREN.columns[1:]:
                is_it = (frame["code"] == code).to_numpy()
                of_age = np.interp(frame["age"], CHILDREN["age"], CHILDREN[code])
                factor = np.where(is_it, of_age, factor)
            value = (pl.col("numeric_value") * pl.Series(factor)).cast(pl.Float32)
            frame = frame.with_columns(numeric_value=value)
        return frame.drop("age")

    return change


def backwards(events: pl.DataFrame) -> pl.DataFrame:
    """Every note in letters that make no words."""
    return events.with_columns(pl.col("text_value").str.reverse())


FAMILIES = {
    "vital signs": PANELS[0],
    "temperature": PANELS[1],
    "chemistry": PANELS[2],
    "blood count": PANELS[3],
    "blood gases": PANELS[4],
    "inflammation": PANELS[5],
}
NOTES = r"^NOTE//"
CHANGES: dict[str, Change] = {
    "temperature in °F": fahrenheit,
    "children": children(in_age=True, in_values=True),
    "children by age alone": children(in_age=True, in_values=False),
    "children by values alone": children(in_age=False, in_values=True),
    **{f"no {f}": without([m.code for m in panel.measured]) for f, panel in FAMILIES.items()},
    "notes backwards": backwards,
    "images inverted": lambda events: events,
    "no notes": lambda events: events.filter(~pl.col("code").str.contains(NOTES)),
    "no images": without([IMAGE]),
}
"""What is wrong with every stay. Blood gases, notes and images are missing in many train stays too:
that they are, in one more, should not be called atypical; that they are in all should be."""


def change_once(source: Path, target: Path, change: Change, *, invert: bool) -> Path:
    """A copy of an extract with its events changed, unless it is there."""
    if target.exists():
        return target
    draft = target.with_name(f".{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, copy_function=os.link)
    for path in sorted((draft / "data").rglob("*.parquet")):
        changed = change(pl.read_parquet(path))
        path.unlink()  # it is linked to the source's
        # A birth that is later than it was still comes first.
        changed.sort("subject_id", "time", nulls_last=False, maintain_order=True).write_parquet(
            path
        )
    for path in sorted((draft / "images").rglob("*.png")) if invert else ():
        inverted = ImageOps.invert(Image.open(path).convert("L"))
        path.unlink()
        inverted.save(path)
    draft.rename(target)
    return target


def score_once(bundle: Path, extract: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions and drift of an extract, made once."""
    if not out.exists():
        clinical.score(bundle, extract, out=out, threads=1)
    return pd.read_parquet(out), pd.read_parquet(out.with_name(f"{out.stem}.drift.parquet"))


def embed_once(bundle: Path, extract: Path, out: Path) -> np.ndarray:
    """[N, D] fused summaries of an extract, made once."""
    if not out.exists():
        clinical.embed(bundle, extract, out=out, threads=1)
    frame = pd.read_parquet(out).sort_values(KEYS)
    return frame.filter(like="dim_").to_numpy()


class Trunk:
    """Distances in the trunk's space from train stays."""

    def __init__(self, train: np.ndarray) -> None:
        self._density = LedoitWolf().fit(train)
        self._scale = train.std(axis=0) + 1e-6
        self._near = NearestNeighbors(n_neighbors=10).fit(train / self._scale)

    def distances(self, summaries: np.ndarray) -> dict[str, np.ndarray]:
        """By method."""
        near, _ = self._near.kneighbors(summaries / self._scale)
        return {"Mahalanobis": self._density.mahalanobis(summaries), "tenth neighbour": near[:, -1]}


def auroc(subjects: np.ndarray, ordinary: np.ndarray, wrong: np.ndarray) -> str:
    """Of the wrong stays' distances against the same stays' before, subjects resampled."""
    names, whose = np.unique(subjects, return_inverse=True)
    draws = np.random.default_rng(0)
    truth = np.repeat([0, 1], len(subjects))
    both = np.r_[ordinary, wrong]
    values = []
    for _ in range(RESAMPLES):
        weight = draws.multinomial(len(names), np.full(len(names), 1 / len(names)))[whose]
        values.append(roc_auc_score(truth, both, sample_weight=np.tile(weight, 2)))
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{roc_auc_score(truth, both):.3f} ({low:.3f} to {high:.3f})"


def share(subjects: np.ndarray, flags: np.ndarray) -> str:
    """Of stays that are flagged, subjects resampled."""
    names, whose = np.unique(subjects, return_inverse=True)
    draws = np.random.default_rng(0)
    of_each, stays = np.bincount(whose, flags), np.bincount(whose)
    weights = draws.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    low, high = np.quantile((weights @ of_each) / (weights @ stays), [0.025, 0.975])
    return f"{flags.mean():.1%} ({low:.1%} to {high:.1%})"


def false_alarms(bundle: Path, extract: Path, *, cohorts: int, size: int) -> int:
    """How many random cohorts of ordinary stays drift."""
    samples = pd.read_parquet(extract / "samples.parquet")
    found = 0
    for number in range(cohorts):
        some = samples.sample(size, random_state=number)
        found += bool(clinical.drift(bundle, extract, samples=some, threads=1)["drifted"].any())
    return found


def main(
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    subjects: int = 13_200,
    held_out: int = 4_000,
    cohorts: int = 20,
    size: int = 200,
) -> None:
    """Train, change and score what is not finished, and print what is told apart."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    train = synthesize_once(out / "train", subjects=subjects, seed=1)
    ordinary = synthesize_once(out / "held-out", subjects=held_out, seed=2)
    run, bundle = out / "run", out / "run" / "bundle"
    if not (bundle / "manifest.json").exists():
        own = [f"extract={train}", f"out={run}", "resume=true"]
        clinical.run(clinical.Run.read(CONFIG, [*own, *(overrides or [])]))
    trunk = Trunk(embed_once(bundle, train, out / "train-embedded.parquet"))
    stays, drift = score_once(bundle, ordinary, out / "scores.parquet")
    stays = stays.sort_values(KEYS, ignore_index=True)
    whose = stays["subject_id"].to_numpy()
    distances = trunk.distances(embed_once(bundle, ordinary, out / "embedded.parquet"))
    typer.echo(f"{len(stays):,} ordinary stays, {drift['drifted'].sum()} comparisons drifted")
    for level in (0.01, 0.05, 0.1):
        typer.echo(f"at most {level}: {share(whose, (stays['typicality'] <= level).to_numpy())}")
    rows = []
    for number, (name, change) in enumerate(CHANGES.items()):
        extract = out / f"changed-{number}"
        change_once(ordinary, extract, change, invert=name == "images inverted")
        wrong, drift = score_once(bundle, extract, out / f"scores-{number}.parquet")
        wrong = wrong.sort_values(KEYS, ignore_index=True)
        there = trunk.distances(embed_once(bundle, extract, out / f"embedded-{number}.parquet"))
        typical = (-stays["typicality"].to_numpy(), -wrong["typicality"].to_numpy())
        rows.append(
            {
                "wrong": name,
                "typicality": auroc(whose, *typical),
                "flagged at 0.05": share(whose, (wrong["typicality"] <= 0.05).to_numpy()),
                **{f"trunk, {how}": auroc(whose, distances[how], there[how]) for how in there},
                "drifted variables": int(drift.query("what == 'variable'")["drifted"].sum()),
                "drifted": int(drift["drifted"].sum()),
            }
        )
        typer.echo(pd.DataFrame(rows[-1:]).to_string(index=False, header=number == 0))
    pd.DataFrame(rows).to_csv(out / "out_of_distribution.csv", index=False)
    alarms = false_alarms(bundle, ordinary, cohorts=cohorts, size=size)
    typer.echo(f"{alarms} of {cohorts} random cohorts of {size} ordinary stays drift")


if __name__ == "__main__":
    typer.run(main)
