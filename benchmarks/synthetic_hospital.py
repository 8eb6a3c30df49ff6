"""How much of what can be known the model recovers, on the synthetic hospital.

    python benchmarks/synthetic_hospital.py runs/benchmark-synthetic --seeds 3

Trains configs/demo.yaml on 10,000 train stays for each seed, scores 20,000 stays generated
apart with themselves as context, and compares with the Bayes risk of `truth.parquet`: whole,
and with each modality and the graph left out when scoring. Finished parts are not run again.
"""

import clinical

import logging
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from sklearn.metrics import roc_auc_score

TRAIN_SUBJECTS = 13_200
HELD_OUT_SUBJECTS = 18_500
CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
TASK = "tasks/in_hospital_mortality"


def synthesize_once(extract: Path, *, subjects: int, seed: int, outbreak: bool = True) -> Path:
    """A synthetic hospital, unless it is there."""
    if not extract.exists():
        clinical.synthesize(extract, subjects=subjects, seed=seed, outbreak=outbreak)
    return extract


def score_once(folder: Path, extract: Path) -> pd.DataFrame:
    """Scores of the extract with itself as context, whole and each part left out, made once."""
    out = folder / "scores.parquet"
    if not out.exists():
        predictor = clinical.Predictor.load(folder / "bundle")
        predictor.leave_out(extract, context=extract).to_parquet(out)
    return pd.read_parquet(out)


def truth(extract: Path) -> pd.DataFrame:
    """Labels and Bayes risks of an extract, one row a sample."""
    keys = ["subject_id", "prediction_time"]
    labels = pd.read_parquet(extract / TASK)[[*keys, "boolean_value"]]
    return labels.merge(pd.read_parquet(extract / "truth.parquet"), on=keys, validate="1:1")


def paired_interval(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of AUROC(a) - AUROC(b), resampling rows."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(labels), size=(200, len(labels)))
    gaps = [roc_auc_score(labels[d], a[d]) - roc_auc_score(labels[d], b[d]) for d in draws]
    return float(np.quantile(gaps, 0.025)), float(np.quantile(gaps, 0.975))


def report(folder: Path, held_out: Path) -> pd.DataFrame:
    """One row for the whole model and one for each part left out."""
    known, scores = truth(held_out), score_once(folder, held_out)
    keys = ["subject_id", "prediction_time"]
    whole = scores[scores["left_out"].isna()]
    joined = known.merge(whole[[*keys, "score"]], on=keys, validate="1:1")
    labels = joined["boolean_value"].to_numpy()
    model, bayes = joined["score"].to_numpy(), joined["risk"].to_numpy()
    auroc, best = roc_auc_score(labels, model), roc_auc_score(labels, bayes)
    recovered = (auroc - 0.5) / (best - 0.5)
    rows = [{"left out": "nothing", "auroc": auroc, "bayes": best, "recovered": recovered}]
    for part, less in scores.groupby("left_out", sort=False):
        other = known.merge(less[[*keys, "score"]], on=keys, validate="1:1")["score"].to_numpy()
        low, high = paired_interval(labels, model, other)
        cost = auroc - roc_auc_score(labels, other)
        rows.append(
            {"left out": part, "auroc": auroc - cost, "cost": cost, "low": low, "high": high}
        )
    return pd.DataFrame(rows)


def main(
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    seeds: int = 3,
    first: int = 0,
) -> None:
    """Train and score what is not finished, and print a table a seed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train = synthesize_once(out / "train", subjects=TRAIN_SUBJECTS, seed=1)
    held_out = synthesize_once(out / "held-out", subjects=HELD_OUT_SUBJECTS, seed=2)
    for seed in range(first, seeds):
        folder = out / f"seed-{seed}"
        started = time.perf_counter()
        if not (folder / "bundle" / "manifest.json").exists():
            own = [f"extract={train}", f"out={folder}", f"seed={seed}", "resume=true"]
            clinical.run(clinical.Run.read(CONFIG, [*own, *(overrides or [])]))
        table = report(folder, held_out)
        minutes = (time.perf_counter() - started) / 60
        typer.echo(f"seed {seed}, {minutes:.1f} minutes\n{table.round(4).to_string(index=False)}")


if __name__ == "__main__":
    typer.run(main)
