"""From trained weights to a finished bundle: calibrate, score, evaluate, describe, seal."""

from clinical.bundle import CALIBRATION, CARD, METRICS, Bundle, seal, write_draft, write_json
from clinical.calibration import fit_calibration
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.datamodule import make_loader
from clinical.evaluation import Evaluation, evaluate, model_card, save_training_curves
from clinical.experts.baseline import baseline_name, baseline_scores
from clinical.experts.tabular import tabulate
from clinical.model import ClinicalModel
from clinical.predictor import Predictor
from clinical.training.build import scoring_memory

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import torch

logger = logging.getLogger(__name__)

NOT_HELD_OUT = "tuning (not held out: the epoch and the calibration were chosen on it)"


@dataclass(frozen=True)
class Judged:
    """The samples that a finished run is judged on.

    Attributes:
        rows: of the store.
        description: of the split, as the evaluation names it.
    """

    rows: np.ndarray
    description: str

    @classmethod
    def of(cls, store: Store) -> "Judged":
        """Held-out samples; where none has a label the tuning ones, and the name says so."""
        held_out = store.rows("held_out")
        labels = store.samples[held_out].select(pl.col("^label\\..*$").is_not_null())
        if any(column.any() for column in labels):
            return cls(held_out, "held_out")
        tuning = np.concatenate([store.rows("select"), store.rows("calibrate")])
        return cls(np.sort(tuning), NOT_HELD_OUT)


def finish(config: RunConfig, store: Store, model: ClinicalModel, *, out: Path) -> Evaluation:
    """Leave bundle, predictions, metrics and figures in the run folder.

    Everything is computed from the reloaded bundle, so that its half precision is included.
    """
    bundle = out / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    memory = scoring_memory(config, store, model, device=torch.device("cpu"))
    write_draft(bundle, config=config, fitted=store.fitted, model=model, memory=memory)
    _calibrate(bundle, store)
    predictor = Predictor(Bundle.read(bundle, draft=True))
    judged = Judged.of(store)
    predictions = predictor.score_store(store, judged.rows)
    _write_parquet(predictions, out / "predictions.parquet")
    baseline = _baseline(config, store, judged.rows)
    _write_parquet(baseline, out / "predictions_baseline.parquet")
    evaluation = evaluate(
        predictions,
        baseline=baseline,
        resamples=config.evaluate.resamples,
        seed=config.seed,
    )
    metrics = {
        "split": judged.description,
        "baseline": baseline_name(),
        "calibration": {
            task: predictor.bundle.calibration[task].to_json() for task in config.tasks
        },
        "counts": store.counts,
        "evaluation": evaluation.to_json(),
    }
    write_json(out / "metrics.json", metrics)
    shutil.copyfile(out / "metrics.json", bundle / METRICS)
    card = model_card(config.dump(), metrics)
    (bundle / CARD).write_text(card, encoding="utf-8")
    evaluation.save_figures(out / "figures")
    curves = [pd.read_csv(path) for path in sorted((out / "logs").glob("*.csv"))]
    save_training_curves(pd.concat(curves), out / "figures" / "training.png")
    seal(bundle)
    return evaluation


def _calibrate(bundle: Path, store: Store) -> None:
    """Fit each task's calibration on `calibrate`, scored by the draft."""
    predictor = Predictor(Bundle.read(bundle, draft=True))
    rows = store.rows("calibrate")
    fitted = {}
    for task in predictor.tasks:
        logits = predictor.logits(store, rows)[task]
        labels = store.samples[rows][f"label.{task}"].to_numpy().astype(np.float64)
        known = ~np.isnan(labels) & ~np.isnan(logits)
        calibration = fit_calibration(logits[known], labels[known])
        fitted[task] = calibration.to_json()
    write_json(bundle / CALIBRATION, fitted)


def _baseline(config: RunConfig, store: Store, rows: np.ndarray) -> pd.DataFrame:
    """Trees on flat features of the same inputs, fitted on train, in the predictions' shape."""
    train = store.rows("train")
    every = np.concatenate([train, rows])
    loader = make_loader(
        store.folder,
        config,
        every,
        batch_size=256,
        workers=config.trainer.workers,
        shuffle_seed=None,
    )
    order, features = tabulate(loader, store.sizes)
    place = np.full(store.n_samples, -1)
    place[order] = np.arange(len(order))
    frames = []
    for task in config.tasks:
        labels = store.samples[f"label.{task}"].to_numpy().astype(np.float64)
        known = train[~np.isnan(labels[train])]
        scores = baseline_scores(
            features[place[known]],
            labels[known],
            features[place[rows]],
            seed=config.seed,
            threads=config.trainer.threads or 1,
        )
        samples = store.samples[rows]
        frames.append(
            pd.DataFrame(
                {
                    "subject_id": samples["subject_id"].to_numpy(),
                    "prediction_time": samples["prediction_time"].to_numpy(),
                    "task": task,
                    "class": pd.Series([None] * len(rows), dtype="string"),
                    "horizon_hours": np.nan,
                    "score": np.where(samples["reason"].is_null().to_numpy(), scores, np.nan),
                    "label": labels[rows],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    draft = path.with_suffix(".draft")
    frame.to_parquet(draft, index=False)
    draft.replace(path)
