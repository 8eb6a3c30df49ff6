"""Whether the patient graph helps where the data hold a relation, and harms where they don't.

    python benchmarks/graph.py runs/benchmark-graph --seeds 5

Trains configs/demo.yaml on 10,000 train stays of the synthetic hospital, for each seed without a
graph, with its own, with a random one and with shuffled edges; scores 20,000 stays generated apart
with themselves as context; and compares with what the outbreak is worth to the Bayes risk. The
flat lines are an additive model with and without the neighbours' mean features. With
`--no-outbreak` the hospital has none, and the graph should cost nothing. Finished parts are not
run again. Of PhysioNet 2012: `benchmarks/physionet2012.py --line "event_set, with a graph"`.
"""

import clinical

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import controls  # noqa: F401  (puts the control relations on the menu)
import numpy as np
import pandas as pd
import typer
from measuring import measured
from sklearn.metrics import roc_auc_score
from synthetic_hospital import (
    CONFIG,
    HELD_OUT_SUBJECTS,
    TRAIN_SUBJECTS,
    synthesize_once,
    truth,
)

KEYS = ["subject_id", "prediction_time"]
UNIT = "k: 32, codes: 'UNIT//.*', window_hours: 168"
LINES: Mapping[str, str] = {
    "no graph": "{}",
    "own graph": f"{{similar: {{k: 16}}, same_unit: {{{UNIT}}}}}",
    "random graph": (
        "{similar: {kind: random_similar, k: 16}, "
        f"same_unit: {{kind: random_same_unit, {UNIT}}}}}"
    ),
    "shuffled edges": (
        "{similar: {kind: shuffled_similar, k: 16}, "
        f"same_unit: {{kind: shuffled_same_unit, {UNIT}}}}}"
    ),
}
FLAT = {"flat": False, "flat, with neighbours' means": True}
RESAMPLES = 1000


def train(extract: Path, out: Path, line: str, seed: int, overrides: list[str]) -> None:
    """The bundle of a line."""
    own = [f"extract={extract}", f"out={out}", f"seed={seed}", "resume=true"]
    clinical.run(clinical.Run.read(CONFIG, [*own, f"graph.relations={LINES[line]}", *overrides]))


def score(bundle: Path, extract: Path, out: Path, work: Path) -> None:
    """Scores of the extract with itself as context; the prepared store stays in `work`."""
    frame = clinical.Predictor.load(bundle).score(extract, context=extract, work=work)
    draft = out.with_suffix(".draft")
    frame.to_parquet(draft)
    draft.replace(out)


def score_flat(trained: Path, prepared: Path, out: Path) -> None:
    """Scores of additive models on flat features, with and without the neighbours' means.

    Args:
        trained: run folder of the own graph; its store holds the train samples.
        prepared: store of the samples to score, of the same bundle.
        out: Parquet file.
    """
    from clinical.bundle import Bundle
    from clinical.calibration import sigmoid
    from clinical.cohort.store import Store
    from clinical.experts.additive import Additive

    bundle, learned, asked = (
        Bundle.read(trained / "bundle"),
        Store.open(trained / "store"),
        Store.open(prepared),
    )
    own = {store.folder: _features(bundle, store) for store in (learned, asked)}
    reference = own[learned.folder][learned.reference_rows]
    known = np.concatenate([reference, own[asked.folder]])
    rows = learned.rows("train")
    labels = learned.samples[rows]["label.in_hospital_mortality"].to_numpy().astype(np.float64)
    rows, labels = rows[~np.isnan(labels)], labels[~np.isnan(labels)]
    found = asked.samples.select(KEYS).to_pandas()
    for name, with_neighbours in FLAT.items():
        tables = dict(own)
        if with_neighbours:
            tables = {
                store.folder: np.hstack([own[store.folder], _neighbours_means(store, known)])
                for store in (learned, asked)
            }
        model = Additive.fit(tables[learned.folder][rows], labels, seed=0, threads=1)
        found[name] = sigmoid(model.logit(tables[asked.folder]))
    draft = out.with_suffix(".draft")
    found.to_parquet(draft)
    draft.replace(out)


def _features(bundle: "object", store: "object") -> np.ndarray:
    """[N, F] flat features of all samples of a store."""
    from clinical.datamodule import make_loader

    rows = np.arange(store.n_samples)
    loader = make_loader(
        store.folder, bundle.config, rows, batch_size=256, workers=0, shuffle_seed=None
    )
    order, features = bundle.tabulator.table(loader)
    return features[np.argsort(order)]


def _neighbours_means(store: "object", known: np.ndarray) -> np.ndarray:
    """[N, R F] weighted mean of the neighbours' features by each relation; NaN without any."""
    means = []
    for relation in ("similar", "same_unit"):
        columns = store.neighbours(relation)
        every = np.arange(store.n_samples)
        rows, weight = columns["rows"].take(every), columns["weight"].take(every)
        blocks = [
            _weighted_mean(known, rows[at : at + 256], weight[at : at + 256])
            for at in range(0, len(every), 256)
        ]
        means.append(np.concatenate(blocks))
    return np.hstack(means)


def _weighted_mean(known: np.ndarray, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    values = known[rows]
    counted = np.where(np.isnan(values) | (rows < 0)[..., None], 0.0, weight[..., None])
    with np.errstate(invalid="ignore"):
        return (counted * np.nan_to_num(values)).sum(1) / counted.sum(1)


def gathered(folder: Path, held_out: Path) -> pd.DataFrame:
    """Labels, Bayes risks and the scores of every line, one row a held-out stay."""
    joined = truth(held_out)
    for line in LINES:
        scores = pd.read_parquet(folder / slug(line) / "scores.parquet")[[*KEYS, "score"]]
        joined = joined.merge(scores.rename(columns={"score": line}), on=KEYS, validate="1:1")
    flat = pd.read_parquet(folder / "flat.parquet")
    return joined.merge(flat, on=KEYS, validate="1:1")


def compared(seeds: list[pd.DataFrame]) -> pd.DataFrame:
    """A row a line: AUROC, its gain over the line without a graph, and the share of the worth.

    Intervals draw held-out subjects and training seeds anew.
    """
    bars = {**dict.fromkeys(LINES, "no graph"), **dict.fromkeys(FLAT, "flat")}
    rng = np.random.default_rng(0)
    values = [_aurocs(frame, rng) for frame in seeds]
    chosen = rng.integers(0, len(seeds), (len(seeds), RESAMPLES))
    chosen = np.hstack([np.arange(len(seeds))[:, None], chosen])
    rows = []
    for line, bar in bars.items():
        mean = {
            name: np.mean(
                [[values[s][name][d] for d, s in enumerate(of_draw)] for of_draw in chosen], axis=0
            )
            for name in (line, bar, "risk", "risk_without_outbreak")
        }
        gain = mean[line] - mean[bar]
        worth = mean["risk"] - mean["risk_without_outbreak"]
        low, high = np.quantile(gain[1:], [0.025, 0.975])
        row = {"line": line, "auroc": mean[line][0], "against": bar, "gain": gain[0]}
        share = gain[0] / worth[0] if worth[0] > 1e-6 else np.nan
        rows.append({**row, "low": low, "high": high, "of the outbreak's worth": share})
    return pd.DataFrame(rows)


def _aurocs(frame: pd.DataFrame, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """[1 + resamples] AUROC of every column: as it is, then with the subjects drawn anew."""
    labels = frame["boolean_value"].to_numpy()
    of_subject = frame.groupby("subject_id").indices
    subjects = list(of_subject.values())
    draws = [np.arange(len(frame))]
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(subjects), len(subjects))
        draws.append(np.concatenate([subjects[s] for s in drawn]))
    columns = [*LINES, *FLAT, "risk", "risk_without_outbreak"]
    scores = {name: frame[name].to_numpy() for name in columns}
    return {
        name: np.array([roc_auc_score(labels[d], score[d]) for d in draws])
        for name, score in scores.items()
    }


def slug(line: str) -> str:
    """What its folder is called."""
    return line.replace(" ", "-")


def main(
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument(help="of every line")] = None,
    seeds: int = 5,
    first: int = 0,
    outbreak: bool = True,
) -> None:
    """Train and score what is not finished, and print the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    extracts = {}
    for name, subjects, seed in (("train", TRAIN_SUBJECTS, 1), ("held-out", HELD_OUT_SUBJECTS, 2)):
        place = out / (name if outbreak else f"{name}-without-outbreak")
        extracts[name] = synthesize_once(place, subjects=subjects, seed=seed, outbreak=outbreak)
    frames = []
    for seed in range(first, seeds):
        folder = out / ("seeds" if outbreak else "seeds-without-outbreak") / str(seed)
        for line in LINES:
            run, scores = folder / slug(line), folder / slug(line) / "scores.parquet"
            if not (run / "bundle" / "manifest.json").exists():
                measured(train, extracts["train"], run, line, seed, overrides or [])
            if not scores.exists():
                measured(score, run / "bundle", extracts["held-out"], scores, run / "asked")
        own = folder / slug("own graph")
        if not (folder / "flat.parquet").exists():
            measured(score_flat, own, own / "asked", folder / "flat.parquet")
        frames.append(gathered(folder, extracts["held-out"]))
        typer.echo(compared(frames).round(4).to_string(index=False))
    compared(frames).to_csv(out / "graph.csv", index=False)


if __name__ == "__main__":
    typer.run(main)
