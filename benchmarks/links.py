"""How well codes that were taken out of held-out patients are found again, synthetic hospital.

    python benchmarks/links.py runs/benchmark-links --subjects 13200 --seeds 3

Trains configs/demo.yaml with `shares_code` for each seed and ranks every candidate code of people
generated apart, from whose extract some codes were removed before anything was prepared. Beside
the model stand the codes' popularity and the Bayes posterior given the visible codes alone (a
truth that knows how the hospital was made). Finished parts are not run again.
"""

import clinical
from clinical.evaluation.links import evaluate_links
from clinical.extract.synthetic.ontology import background_codes

import importlib
import logging
import shutil
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import typer
from scipy.special import expit

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
RELATION = "graph.relations.shares_code.k=16"
PARTICLES = 20_000


def synthesize_once(extract: Path, *, subjects: int, seed: int) -> Path:
    """A synthetic hospital, unless it is there."""
    if not extract.exists():
        clinical.synthesize(extract, subjects=subjects, seed=seed)
    return extract


def hide_once(source: Path, target: Path, *, share: float) -> Path:
    """The extract without a share of each subject's codes, at least one, wherever they stand.

    What was taken is left beside it, in `hidden.parquet`: `subject_id, code`.
    """
    if (target / "hidden.parquet").exists():
        return target
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    table = pl.read_parquet(source / "metadata" / "codes.parquet")
    known = table.filter(pl.col("parent_codes").list.len() > 0)["code"]
    files = sorted((target / "data").rglob("*.parquet"))
    has = pl.concat([pl.read_parquet(path, columns=["subject_id", "code"]) for path in files])
    has = has.filter(pl.col("code").is_in(known.to_list())).unique().sort("subject_id", "code")
    draws = pl.Series("draw", np.random.default_rng(0).random(has.height))
    rank = pl.col("draw").rank().over("subject_id")
    taken = (share * pl.len().over("subject_id")).round().clip(lower_bound=1)
    hidden = has.with_columns(draws).filter(rank <= taken).drop("draw")
    for path in files:
        frame = pl.read_parquet(path)
        frame.join(
            hidden, on=["subject_id", "code"], how="anti", maintain_order="left"
        ).write_parquet(path)
    hidden.write_parquet(target / "hidden.parquet")
    return target


def link_once(folder: Path, extract: Path) -> pd.DataFrame:
    """Every candidate of every sample, with `is_edge` where the code was taken; made once."""
    out = folder / "links.parquet"
    if not out.exists():
        clinical.link(folder / "bundle", extract, top=None, out=out)
    hidden = pd.read_parquet(extract / "hidden.parquet").assign(is_edge=True)
    links = pd.read_parquet(out).merge(hidden, on=["subject_id", "code"], how="left")
    return links.assign(is_edge=links["is_edge"].notna())


def bayes_scores(extract: Path, links: pd.DataFrame, *, share: float) -> pd.Series:
    """What the visible codes tell of the others, by how the hospital draws them.

    A sum over patients drawn from its prior, each weighed by how likely it shows these codes.
    """
    world = importlib.import_module("clinical.extract.synthetic.render_codes")
    noise = importlib.import_module("clinical.extract.synthetic.causes").READING_NOISE
    names = [*world.CODES, *background_codes()]
    draws = np.random.default_rng(0)
    groups = world.GROUPS.max() + 1
    prone = world.PRONENESS * draws.standard_normal((PARTICLES, groups))
    prone -= prone.mean(axis=1, keepdims=True)
    reading = np.hypot(1, noise) * draws.standard_normal((PARTICLES, 1))
    has = expit(world.STEEPNESS * (reading + prone[:, world.GROUPS] - world.THRESHOLDS))
    background = np.full((PARTICLES, len(background_codes())), world.BACKGROUND_SHARE)
    has = np.concatenate([has, background], axis=1)
    shown = (1 - share) * has
    events = pl.read_parquet(extract / "data" / "**" / "*.parquet", columns=["subject_id", "code"])
    pairs = events.filter(pl.col("code").is_in(names)).unique()
    subjects = np.unique(links["subject_id"])
    visible = np.zeros((len(subjects), len(names)))
    visible[
        np.searchsorted(subjects, pairs["subject_id"].to_numpy()),
        pd.Index(names).get_indexer(pairs["code"].to_list()),
    ] = 1
    posterior = np.empty_like(visible)
    for part in np.array_split(np.arange(len(subjects)), max(1, len(subjects) // 200)):
        fit = visible[part] @ np.log(shown + 1e-12).T + (1 - visible[part]) @ np.log1p(-shown).T
        weight = np.exp(fit - fit.max(axis=1, keepdims=True))
        posterior[part] = weight @ (share * has / (1 - shown)) / weight.sum(axis=1, keepdims=True)
    place = pd.Index(names).get_indexer(links["code"])
    score = posterior[np.searchsorted(subjects, links["subject_id"]), place]
    return pd.Series(score, index=links.index)


def report(folder: Path, extract: Path, *, share: float, resamples: int) -> pd.DataFrame:
    """The model and the Bayes posterior beside popularity, for both choices of non-edges."""
    links = link_once(folder, extract)
    bayes = links.assign(score=bayes_scores(extract, links, share=share))
    rows = [
        evaluate_links(table, resamples=resamples).assign(scores=name)
        for name, table in (("model", links), ("Bayes, codes alone", bayes))
    ]
    return pd.concat(rows, ignore_index=True).set_index(["negatives", "scores"])


def main(
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    subjects: int = 13_200,
    held_out: int = 4_000,
    share: float = 0.2,
    seeds: int = 3,
    first: int = 0,
    resamples: int = 200,
) -> None:
    """Train and link what is not finished, and print a table a seed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train = synthesize_once(out / "train", subjects=subjects, seed=1)
    whole = synthesize_once(out / "held-out", subjects=held_out, seed=2)
    extract = hide_once(whole, out / "hidden", share=share)
    for seed in range(first, seeds):
        folder = out / f"seed-{seed}"
        started = time.perf_counter()
        if not (folder / "bundle" / "manifest.json").exists():
            own = [f"extract={train}", f"out={folder}", f"seed={seed}", RELATION, "resume=true"]
            clinical.run(clinical.Run.read(CONFIG, [*own, *(overrides or [])]))
        table = report(folder, extract, share=share, resamples=resamples)
        minutes = (time.perf_counter() - started) / 60
        typer.echo(f"seed {seed}, {minutes:.1f} minutes\n{table.round(4).to_string()}")


if __name__ == "__main__":
    typer.run(main)
