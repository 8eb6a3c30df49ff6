"""Which fusion to choose, and whether more modalities ever hurt, on the synthetic hospital.

    python benchmarks/fusions.py runs/benchmark-fusions --seeds 3

Trains configs/demo.yaml without its graph on 10,000 train stays for each seed: with every fusion
of the menu, whose encoders start from the same weights and are each pretrained in their own run;
with each modality alone; and with each left out in training. All score 20,000 stays generated
apart. Four tables, written as CSV beside the runs, with 95 % intervals of paired differences that
draw subjects anew, but not the training seeds: of one seed they are too narrow to choose by.

- `fusions`: each fusion, and its difference from the first line's;
- `patterns`: the same among the samples that have exactly these modalities;
- `removals`: what each fusion loses when a modality is taken away in scoring;
- `additions`: for each modality, among the samples that have it, what a network trained with
  all gains over one trained without it, and over one trained with it alone. A modality hurts where
  the upper end of an interval is below zero.

Finished parts are not run again. A small look, in minutes of one core:

    python benchmarks/fusions.py OUT --subjects 1500 --held-out 2000 --seeds 1
        trainer.threads=1 pretrain=null finetune.epochs=4 finetune.patience=null
"""

import clinical
from clinical.evaluation.bootstrap import percentile_interval, resample_weights
from clinical.evaluation.metrics import Scored, compute
from clinical.fusion import FUSIONS

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
import yaml
from synthetic_hospital import (
    CONFIG,
    HELD_OUT_SUBJECTS,
    TRAIN_SUBJECTS,
    synthesize_once,
    truth,
)

KEYS = ["subject_id", "prediction_time"]
MODALITIES = tuple(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["modalities"])
DEFAULT = "attention"
RESAMPLES = 1000
FEWEST = 10
"""Of either class in a pattern that gets a line."""


def fusion_lines() -> dict[str, list[str]]:
    """Overrides of each fusion, the default first."""
    kinds = sorted(FUSIONS, key=lambda kind: kind != DEFAULT)
    return {kind: [f"fusion={{kind: {kind}, width: 64}}"] for kind in kinds}


def modality_lines() -> dict[str, list[str]]:
    """Overrides of each modality alone, and of all but it, with the default fusion."""
    lines = {}
    for name in MODALITIES:
        lines[f"only {name}"] = with_modalities([name])
        lines[f"without {name}"] = with_modalities([m for m in MODALITIES if m != name])
    return lines


def with_modalities(kept: Sequence[str]) -> list[str]:
    """Overrides that switch the others off, and the objectives that would miss them."""
    asks = {"events": "values", "notes": "tokens", "images": "patches", "codes": "edges"}
    off = [f"modalities.{name}=null" for name in MODALITIES if name not in kept]
    if asks.keys().isdisjoint(kept):
        return [*off, "pretrain=null"]
    return [*off, *(f"pretrain.objectives.{o}=null" for m, o in asks.items() if m not in kept)]


def train(extract: Path, out: Path, seed: int, overrides: list[str]) -> None:
    """The bundle of a line; one without anything to pretrain by starts from random weights."""
    own = [f"extract={extract}", f"out={out}", f"seed={seed}", "resume=true"]
    config = clinical.Run.read(CONFIG, [*own, "graph.relations={}", *overrides])
    clinical.run(config)


def score(bundle: Path, extract: Path, out: Path) -> None:
    """Scores of the extract, whole and with each modality taken away."""
    frame = clinical.Predictor.load(bundle).leave_out(extract)
    draft = out.with_suffix(".draft")
    frame.to_parquet(draft)
    draft.replace(out)


def differences(
    labels: np.ndarray, subjects: np.ndarray, scores: np.ndarray, bar: np.ndarray
) -> dict[str, float]:
    """AUROC of scores [S, N] of S seeds, and the mean difference from the bar's [S, N].

    The interval draws subjects anew, the same for all seeds.
    """
    judged = [
        (Scored.of(line, labels), Scored.of(beside, labels))
        for line, beside in zip(scores, bar, strict=True)
    ]

    def of(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sides = [
            [compute(one, weights, ["AUROC"])["AUROC"] for one in side]
            for side in zip(*judged, strict=True)
        ]
        own, other = (np.mean(side, axis=0) for side in sides)
        return own, own - other

    (auroc,), (gain,) = of(np.ones((1, len(labels))))
    draws = resample_weights(subjects, RESAMPLES, np.random.default_rng(0))
    interval = percentile_interval(np.concatenate([of(weights)[1] for weights in draws]))
    return {"auroc": auroc, "difference": gain, "low": interval.low, "high": interval.high}


class Judged:
    """The scores of every line and seed beside the labels, in one order.

    Args:
        known: `truth` of the held-out stays.
        scores: line -> frames of `Predictor.leave_out`, one a seed.
    """

    def __init__(self, known: pd.DataFrame, scores: dict[str, list[pd.DataFrame]]) -> None:
        self.labels = known["boolean_value"].to_numpy().astype(float)
        self.subjects = known["subject_id"].to_numpy()
        self._keys, self._scores = known[KEYS], scores
        whole = self._beside(scores[DEFAULT][0], None)
        self.pattern = whole["modalities"].to_numpy()

    def _beside(self, frame: pd.DataFrame, left_out: str | None) -> pd.DataFrame:
        is_left = frame["left_out"].isna() if left_out is None else frame["left_out"] == left_out
        return self._keys.merge(frame[is_left], on=KEYS, how="left", validate="1:1")

    def of(self, line: str, left_out: str | None = None) -> np.ndarray:
        """[S, N] scores; where nothing is visible to a line, all that it knows: the mean."""
        each = [self._beside(frame, left_out)["score"] for frame in self._scores[line]]
        return np.stack([score.fillna(score.mean()).to_numpy() for score in each])

    def row(
        self, line: np.ndarray, bar: np.ndarray, among: np.ndarray | None = None
    ) -> dict[str, float]:
        """`differences` among some samples [N] bool."""
        kept = np.ones(len(self.labels), dtype=bool) if among is None else among
        counts = {"samples": int(kept.sum()), "deaths": int(self.labels[kept].sum())}
        return counts | differences(
            self.labels[kept], self.subjects[kept], line[:, kept], bar[:, kept]
        )

    def has(self, modality: str) -> np.ndarray:
        """[N] bool."""
        return np.array([modality in pattern.split("+") for pattern in self.pattern])


def fusions(judged: Judged) -> Iterator[dict[str, object]]:
    """A row a fusion."""
    for kind in fusion_lines():
        yield {"fusion": kind, **judged.row(judged.of(kind), judged.of(DEFAULT))}


def patterns(judged: Judged) -> Iterator[dict[str, object]]:
    """A row a fusion and set of present modalities, the commonest first."""
    for pattern in pd.Series(judged.pattern).value_counts().index:
        among = judged.pattern == pattern
        deaths = judged.labels[among].sum()
        if min(deaths, among.sum() - deaths) < FEWEST:
            continue
        for kind in fusion_lines():
            row = judged.row(judged.of(kind), judged.of(DEFAULT), among)
            yield {"present": pattern, "fusion": kind, **row}


def removals(judged: Judged) -> Iterator[dict[str, object]]:
    """A row a fusion and modality: the scores without it less those with it."""
    for kind in fusion_lines():
        for name in MODALITIES:
            row = judged.row(judged.of(kind, name), judged.of(kind), judged.has(name))
            yield {"fusion": kind, "removed": name, **row}


def additions(judged: Judged) -> Iterator[dict[str, object]]:
    """A row a modality and network with less: the scores with all less those with less."""
    for name in MODALITIES:
        for less in (f"without {name}", f"only {name}"):
            row = judged.row(judged.of(DEFAULT), judged.of(less), judged.has(name))
            yield {"with all, against": less, **row, "hurts": row["high"] < 0}


TABLES = (fusions, patterns, removals, additions)


def tables(known: pd.DataFrame, scores: dict[str, list[pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The four tables by name."""
    judged = Judged(known, scores)
    return {table.__name__: pd.DataFrame(table(judged)) for table in TABLES}


def overridden(own: Sequence[str], given: Sequence[str]) -> list[str]:
    """A line's overrides behind those of the call, less what the call has switched off."""
    if "pretrain=null" in given:
        own = [override for override in own if not override.startswith("pretrain.")]
    return [*given, *own]


def main(
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument(help="of every line")] = None,
    seeds: int = 3,
    subjects: int = TRAIN_SUBJECTS,
    held_out: int = HELD_OUT_SUBJECTS,
) -> None:
    """Train and score what is not finished, and print the tables."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    extract = synthesize_once(out / "train", subjects=subjects, seed=1)
    apart = synthesize_once(out / "held-out", subjects=held_out, seed=2)
    lines = fusion_lines() | modality_lines()
    scores: dict[str, list[pd.DataFrame]] = {line: [] for line in lines}
    for seed in range(seeds):
        for line, own in lines.items():
            folder = out / "seeds" / str(seed) / line.replace(" ", "-")
            scored = folder / "scores.parquet"
            if not (folder / "bundle" / "manifest.json").exists():
                train(extract, folder, seed, overridden(own, overrides or []))
            if not scored.exists():
                score(folder / "bundle", apart, scored)
            scores[line].append(pd.read_parquet(scored))
    for name, table in tables(truth(apart), scores).items():
        table.to_csv(out / f"{name}.csv", index=False)
        typer.echo(f"\n{name}\n{table.round(4).to_string(index=False)}")


if __name__ == "__main__":
    typer.run(main)
