"""What classical models say of the train samples, for a network to learn beside the labels.

A label says 0 or 1 of a risk in between. A model that was fitted on other patients says less
exactly, but with far less noise, and also of patients without a label: learning from both makes
labels go further (distillation, Hinton et al., 2015, arXiv:1503.02531; out of fold, since a
teacher knows the labels that it was fitted on by heart).
"""

from clinical.calibration import sigmoid
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.datamodule import make_loader
from clinical.experts import EXPERTS
from clinical.experts.fitting import store_labels
from clinical.experts.tabular import Tabulator
from clinical.model import ClinicalModel

import logging
from collections.abc import Iterator

import numpy as np
import torch

logger = logging.getLogger(__name__)

FOLDS = 5
BATCH_SIZE = 128


def taught(config: RunConfig, store: Store, model: ClinicalModel) -> dict[str, torch.Tensor]:
    """The teachers' mean risk of each train sample, by models fitted without its subject's labels.

    The teachers read the flat features that experts read, and what the pretrained network makes
    of the sample.

    Args:
        config: of the network, with its seed.
        store: what was prepared.
        model: as it is before fine-tuning.

    Returns:
        task -> [N] float32 probability for each row of the store; NaN outside of train, and
        everywhere where too few subjects have a label to leave some out.
    """
    rows = store.rows("train")
    features = _features(config, store, model, rows)
    subject = store.samples[rows]["subject_id"].to_numpy()
    found = {}
    for task in config.tasks:
        labels = store_labels(store, task)[rows]
        risk = np.full(store.n_samples, np.nan, dtype=np.float32)
        risk[rows] = _cross_fitted(config, features, labels, subject)
        if np.isnan(risk[rows]).all():
            logger.warning("%s: too few labels to teach by; learning from the labels alone", task)
        found[task] = torch.from_numpy(risk)
    return found


def _cross_fitted(
    config: RunConfig, features: np.ndarray, labels: np.ndarray, subject: np.ndarray
) -> np.ndarray:
    """[n] risk by teachers of the folds that lack the sample's subject, or all folds' mean."""
    total, times = np.zeros(len(labels)), np.zeros(len(labels))
    for fitted_on, rest in _folds(labels, subject, config.seed):
        for name in config.finetune.teachers:
            teacher = EXPERTS[name].fit(
                features[fitted_on],
                labels[fitted_on],
                seed=config.seed,
                threads=config.trainer.threads or 1,
            )
            total[rest] += teacher.logit(features[rest])
            times[rest] += 1
    with np.errstate(invalid="ignore"):
        return sigmoid(total / times)


def _folds(
    labels: np.ndarray, subject: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labelled samples to fit on, and all samples of other subjects."""
    from sklearn.model_selection import StratifiedGroupKFold

    known = np.flatnonzero(~np.isnan(labels))
    of_class = [len(np.unique(subject[known[labels[known] == value]])) for value in (0, 1)]
    n_folds = min(FOLDS, *of_class)
    if n_folds < 2:
        return
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed % 2**32)
    for fitted_on, _ in folds.split(known, labels[known], subject[known]):
        here = known[fitted_on]
        if len(np.unique(labels[here])) == 2:
            yield here, np.flatnonzero(~np.isin(subject, subject[here]))


@torch.no_grad()
def _features(
    config: RunConfig, store: Store, model: ClinicalModel, rows: np.ndarray
) -> np.ndarray:
    """[n, F + D] flat features and fused embeddings of rows, in their order."""
    tabulator = Tabulator.of(config, store.sizes)
    place = np.full(store.n_samples, -1)
    place[rows] = np.arange(len(rows))
    features = np.full((len(rows), tabulator.n_columns + model.width), np.nan, dtype=np.float32)
    was_training = model.training
    model.eval()
    loader = make_loader(
        store.folder,
        config,
        rows,
        batch_size=BATCH_SIZE,
        workers=config.trainer.workers,
        shuffle_seed=None,
    )
    for batch in loader:
        own = torch.from_numpy(tabulator.features(batch))
        both = torch.cat([own, model.embed(batch).float()], dim=1)
        features[place[batch.row.numpy()]] = both.numpy()
    model.train(was_training)
    return features
