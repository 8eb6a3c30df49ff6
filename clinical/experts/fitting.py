"""Classical models on a prepared store: the experts of a run, and the baseline beside it."""

from clinical.calibration import sigmoid
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.datamodule import make_loader
from clinical.experts import EXPERTS, Expert
from clinical.experts.baseline import baseline_scores
from clinical.experts.lightgbm import LightGBM
from clinical.experts.tabular import Tabulator

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Flat:
    """The flat features of the samples that experts are fitted on or asked about.

    Attributes:
        features: [n, F].
        place: [N] row of `features` for each row of the store, -1 where it has none.
    """

    features: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, config: RunConfig, store: Store, rows: np.ndarray) -> "Flat":
        """Of the samples whose labels are learned, and of `rows`."""
        labels = np.stack([store_labels(store, task) for task in config.tasks])
        known = ~np.isnan(labels).all(axis=0)
        train = learned_rows(config, store)
        loader = make_loader(
            store.folder,
            config,
            np.union1d(train[known[train]], rows),
            batch_size=256,
            workers=config.trainer.workers,
            shuffle_seed=None,
        )
        order, features = Tabulator.of(config, store.sizes).table(loader)
        place = np.full(store.n_samples, -1)
        place[order] = np.arange(len(order))
        return cls(features, place)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.features[self.place[rows]]
        return found


def store_labels(store: Store, task: str) -> np.ndarray:
    """[N] the store's labels of a task, NaN where unknown."""
    labels: np.ndarray = store.samples[f"label.{task}"].to_numpy().astype(np.float64)
    return labels


def learned_rows(config: RunConfig, store: Store) -> np.ndarray:
    """Rows of the store whose labels may be learned: train, and tuning where that is asked for."""
    train = store.rows("train")
    if not config.finetune.learn_tuning:
        return train
    return np.sort(np.concatenate([train, store.rows("select"), store.rows("calibrate")]))


def fit_experts(config: RunConfig, store: Store, flat: Flat) -> dict[str, dict[str, Expert]]:
    """Each expert on the samples with a label to learn, for each task."""
    train = learned_rows(config, store)
    fitted: dict[str, dict[str, Expert]] = {}
    for name in config.experts:
        fitted[name] = {}
        for task in config.tasks:
            labels = store_labels(store, task)
            known = train[~np.isnan(labels[train])]
            fitted[name][task] = EXPERTS[name].fit(
                flat[known],
                labels[known],
                seed=config.seed,
                threads=config.trainer.threads or 1,
            )
            logger.info("%s: fitted for %s on %d samples", name, task, len(known))
    return fitted


def baseline_predictions(
    config: RunConfig,
    store: Store,
    rows: np.ndarray,
    flat: Flat,
    experts: Mapping[str, Mapping[str, Expert]],
) -> pd.DataFrame:
    """Trees on flat features of the same inputs and labels, in the predictions' shape."""
    train, samples = learned_rows(config, store), store.samples[rows]
    frames = []
    for task in config.tasks:
        labels = store_labels(store, task)
        known = train[~np.isnan(labels[train])]
        fitted = [tasks[task] for tasks in experts.values() if isinstance(tasks[task], LightGBM)]
        if fitted:  # the baseline would fit the same trees, from the same seed
            scores = sigmoid(fitted[0].logit(flat[rows]))
        else:
            scores = baseline_scores(
                flat[known],
                labels[known],
                flat[rows],
                seed=config.seed,
                threads=config.trainer.threads or 1,
            )
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
