"""Classical models on a prepared store: the experts of a run, and the baseline beside it."""

from clinical.answers import Answer, Multiclass
from clinical.calibration import sigmoid
from clinical.cohort.labels import label_array
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.datamodule import make_loader
from clinical.experts import EXPERTS, Expert
from clinical.experts.baseline import TreeKind, baseline_scores
from clinical.experts.lightgbm import LightGBM
from clinical.experts.tabular import Tabulator
from clinical.prediction_table import long_frame, together

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
        known = store.is_labelled
        train = learned_rows(config, store)
        loader = make_loader(
            store.folder, config, np.union1d(train[known[train]], rows), batch_size=256
        )
        order, features = Tabulator.of(config, store.sizes).table(loader)
        place = np.full(store.n_samples, -1)
        place[order] = np.arange(len(order))
        return cls(features, place)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.features[self.place[rows]]
        return found


def store_labels(store: Store, task: str) -> np.ndarray:
    """[N] the store's labels of a binary task, NaN where unknown."""
    labels: np.ndarray = store.samples[f"label.{task}"].to_numpy().astype(np.float64)
    return labels


def learned_rows(config: RunConfig, store: Store) -> np.ndarray:
    """Rows of the store whose labels may be learned: train, and tuning where that is asked for."""
    train = store.rows("train")
    if not config.finetune.learn_tuning:
        return train
    return np.sort(np.concatenate([train, store.rows("select"), store.rows("calibrate")]))


def fit_experts(config: RunConfig, store: Store, flat: Flat) -> dict[str, dict[str, Expert]]:
    """Each expert on the samples with a label to learn, for each binary task."""
    train = learned_rows(config, store)
    fitted: dict[str, dict[str, Expert]] = {}
    for name in config.experts:
        fitted[name] = {}
        for task in config.binary_tasks:
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
    samples, answers = store.samples[rows], store.fitted.answers(config)
    frames = []
    for task, answer in answers.items():
        own = [e for tasks in experts.values() if isinstance(e := tasks.get(task), LightGBM)]
        if own:  # the baseline would fit the same trees, from the same seed
            scores = sigmoid(own[0].logit(flat[rows]))[:, None]
        else:
            scores = _baseline(config, store, rows, flat, task, answer)
        frames.append(long_frame(config, answer, task, samples, scores))
    return together(frames)


def _baseline(
    config: RunConfig, store: Store, rows: np.ndarray, flat: Flat, task: str, answer: Answer
) -> np.ndarray:
    """[n, R] the baseline's scores of a task for `rows`.

    Yes-or-no answers get trees each: of a time-to-event task those who are known to have had the
    event by the horizon, or not.
    """
    train = learned_rows(config, store)
    labels = label_array(store.samples, task, config.tasks[task])[train]

    def fit(truth: np.ndarray, kind: TreeKind) -> np.ndarray:
        known = ~np.isnan(truth)
        if len(np.unique(truth[known])) < 2:  # such as no event by the first of several horizons
            return np.full(len(rows), truth[known].mean())
        return baseline_scores(
            flat[train[known]],
            truth[known],
            flat[rows],
            kind=kind,
            seed=config.seed,
            threads=config.trainer.threads or 1,
        )

    outcomes = answer.outcomes(labels)
    if outcomes is not None:
        return np.stack([fit(truth, "binary") for truth in outcomes.T], axis=1)
    if isinstance(answer, Multiclass):
        scores = fit(labels[:, 0], "multiclass")
        # The last classes may have no train sample with anything visible.
        return np.pad(scores, ((0, 0), (0, len(answer.names) - scores.shape[1])))
    return fit(labels[:, 0], "regression")[:, None]
