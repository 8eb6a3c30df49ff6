"""Classical models on a prepared store: the experts of a run, and the baseline beside it."""

from clinical.answers import Answer
from clinical.calibration import sigmoid
from clinical.cohort.labels import label_array
from clinical.cohort.store import Store
from clinical.config import RunConfig, TaskKind
from clinical.datamodule import make_loader
from clinical.experts import EXPERTS, Expert
from clinical.experts.baseline import TreeKind, baseline_scores
from clinical.experts.lightgbm import LightGBM
from clinical.experts.tabular import Tabulator
from clinical.prediction_table import long_frame, together

import logging
from collections.abc import Callable, Mapping
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


Fit = Callable[..., np.ndarray]
"""Of a kind of trees, the truth [N] and what each sample counts: scores [n] or [n, C]."""


def _baseline(
    config: RunConfig, store: Store, rows: np.ndarray, flat: Flat, task: str, answer: Answer
) -> np.ndarray:
    """[n, R] the baseline's scores of a task for `rows`.

    Where no two different labels are of train samples with anything visible, it is what all train
    labels say on average.
    """
    learned = learned_rows(config, store)
    train = np.union1d(learned, np.flatnonzero(store.samples["split"] == "train"))
    labels = label_array(store.samples, task, config.tasks[task])[train]

    def fit(kind: TreeKind, truth: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        known = ~np.isnan(truth)
        seen = known & np.isin(train, learned)
        if len(np.unique(truth[seen])) < 2:
            said = truth[known]
            if kind == "multiclass":
                said = np.eye(len(answer.classes))[said.astype(int)]
            average = np.average(said, axis=0, weights=None if counts is None else counts[known])
            return np.repeat(average[None], len(rows), axis=0)
        return baseline_scores(
            flat[train[seen]],
            truth[seen],
            flat[rows],
            kind=kind,
            counts=None if counts is None else counts[seen],
            seed=config.seed,
            threads=config.trainer.threads or 1,
        )

    return BASELINES[config.tasks[task].kind](answer, labels, fit)


def _yes_or_no(answer: Answer, labels: np.ndarray, fit: Fit) -> np.ndarray:
    """Trees for each score; who was observed until a horizon stands for who was censored."""
    outcomes, counts = answer.outcomes(labels), answer.counts(labels)
    assert outcomes is not None
    each = [None] * outcomes.shape[1] if counts is None else counts.T
    pairs = zip(outcomes.T, each, strict=True)
    return np.stack([fit("binary", truth, count) for truth, count in pairs], axis=1)


def _classes(answer: Answer, labels: np.ndarray, fit: Fit) -> np.ndarray:
    """The last classes may have no train sample with anything visible."""
    scores = fit("multiclass", labels[:, 0])
    return np.pad(scores, ((0, 0), (0, len(answer.classes) - scores.shape[1])))


def _values(answer: Answer, labels: np.ndarray, fit: Fit) -> np.ndarray:
    return fit("regression", labels[:, 0])[:, None]


BASELINES: dict[TaskKind, Callable[[Answer, np.ndarray, Fit], np.ndarray]] = {
    "binary": _yes_or_no,
    "multiclass": _classes,
    "multilabel": _yes_or_no,
    "regression": _values,
    "time_to_event": _yes_or_no,
}
"""Kind of task -> the trees that answer it, fitted by the last argument."""
