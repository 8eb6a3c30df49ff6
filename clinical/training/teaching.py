"""What classical models say of the train samples, for a network to learn beside the labels.

A label says 0 or 1 of a risk in between. A model that was fitted on other patients says less
exactly, but with far less noise, and also of patients without a label: learning from both makes
labels go further (distillation, Hinton et al., 2015, arXiv:1503.02531; out of fold, since a
teacher knows the labels that it was fitted on by heart).
"""

from clinical.batch import ClinicalBatch
from clinical.calibration import sigmoid
from clinical.cohort.fitted import Fitted
from clinical.cohort.lineage import is_known
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.datamodule import make_loader
from clinical.experts import EXPERTS
from clinical.experts.fitting import learned_rows, store_labels
from clinical.experts.tabular import Tabulator
from clinical.model import ClinicalModel

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch

logger = logging.getLogger(__name__)

FOLDS = 5
FEWEST_SUBJECTS = 4
"""Of each class; with fewer a teacher would be fitted on one or two."""
BATCH_SIZE = 128
PROBE_PRIOR_SD = 1.7
"""Of a sample's logit by the probe before any label is seen."""
PROBE_UP_TO = 40
"""Samples of the rarer class up to which the probe counts as much as an expert, and beyond which
less in proportion: on PhysioNet 2012 set-b it helps at 10 % of the labels and harms at all."""


def teacher_risks(config: RunConfig, store: Store, model: ClinicalModel) -> dict[str, torch.Tensor]:
    """The teachers' mean risk of samples, by models fitted without the labels of their subjects.

    The teachers read the flat features that experts read, and what the network makes of the
    sample where it was pretrained (see `Features`). There a linear probe of that alone teaches too.

    Args:
        config: of the network, with its seed.
        store: what was prepared.
        model: as it is before fine-tuning.

    Returns:
        binary task -> [N] float32 probability for each row of the store; NaN where nothing is
        learned (outside of train, unless `finetune.learn_tuning`), where no label is known unless
        `finetune.teach_unlabelled`, and everywhere for a task with too few labelled subjects to
        leave some out.
    """
    rows = learned_rows(config, store)
    subject = store.samples["subject_id"].to_numpy()
    labels = {task: store_labels(store, task) for task in config.binary_tasks}
    known = np.any([~np.isnan(of_task) for of_task in labels.values()], axis=0)
    labelled, unlabelled = rows[known[rows]], rows[~known[rows]]
    features = Features(config, store, model)
    table = features.table(labelled)
    teachers = {
        task: list(
            teachers_of(
                config,
                task,
                table,
                of_task[labelled],
                subject[labelled],
                experts=config.finetune.teachers,
                width=features.width,
            )
        )
        for task, of_task in labels.items()
    }
    risks = {task: np.full(store.n_samples, np.nan, dtype=np.float32) for task in labels}
    every = config.finetune.teach_unlabelled
    blocks = features.batches(unlabelled) if every else ()
    for some, flat in ((labelled, table), *blocks):
        for task, risk in risks.items():
            taught = every | ~np.isnan(labels[task][some])
            said = sigmoid(out_of_fold_logit(teachers[task], flat, subject[some]))
            risk[some] = np.where(taught, said, np.nan)
    return {task: torch.from_numpy(risk) for task, risk in risks.items()}


class Model(Protocol):
    """What was fitted on flat features and an embedding, side by side."""

    def logit(self, features: np.ndarray) -> np.ndarray:
        """[n, F + D] -> [n]."""


@dataclass(frozen=True)
class Teacher:
    """A model, the subjects whose labels it was fitted on, and how much it counts."""

    model: Model
    subjects: np.ndarray
    weight: float


@dataclass(frozen=True)
class Probe:
    """Logistic regression on a pretrained embedding, the last columns of the features."""

    regression: Any
    width: int

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray, *, width: int) -> Self:
        """Of features [n, F + width] and labels [n], 0 or 1, both present."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        regression = LogisticRegression(C=PROBE_PRIOR_SD**2 / width, max_iter=1000)
        pipeline = make_pipeline(StandardScaler(), regression)
        return cls(pipeline.fit(features[:, -width:], labels), width)

    def logit(self, features: np.ndarray) -> np.ndarray:
        """[n, F + width] -> [n]."""
        found: np.ndarray = self.regression.decision_function(features[:, -self.width :])
        return found


def teachers_of(
    config: RunConfig,
    task: str,
    features: np.ndarray,
    labels: np.ndarray,
    subject: np.ndarray,
    *,
    experts: Sequence[str],
    width: int,
) -> Iterator[Teacher]:
    """Of each fold, fitted on what the others know of the task; none where too few are labelled.

    Args:
        config: of the network, with its seed.
        task: of which.
        features: [n, F + width].
        labels: [n], NaN where unknown.
        subject: [n].
        experts: names of those that teach beside a probe of the embedding.
        width: of the embedding; 0 without one.
    """
    known = ~np.isnan(labels)
    features, labels, subject = features[known], labels[known], subject[known]
    folds = folds_of(labels, subject, config.seed)
    if not folds:
        logger.warning(
            "%s: fewer than %d train subjects of a class, too few to hold any out: no teachers",
            task,
            FEWEST_SUBJECTS,
        )
    threads = config.trainer.threads or 1
    for subjects in folds:
        fitted_on = np.isin(subject, subjects)
        some, truth = features[fitted_on], labels[fitted_on]
        for name in experts:
            expert = EXPERTS[name].fit(some, truth, seed=config.seed, threads=threads)
            yield Teacher(expert, subjects, 1.0)
        if width:
            rarer = min(truth.sum(), (1 - truth).sum())
            weight = min(1.0, PROBE_UP_TO / rarer)
            yield Teacher(Probe.fit(some, truth, width=width), subjects, weight)


def folds_of(labels: np.ndarray, subject: np.ndarray, seed: int) -> list[np.ndarray]:
    """The subjects to fit on in each fold, with about as many of each class as in the others."""
    from sklearn.model_selection import StratifiedKFold

    subjects, place = np.unique(subject, return_inverse=True)
    positive = np.bincount(place, weights=labels) > 0
    fewest = min(positive.sum(), (~positive).sum())
    if fewest < FEWEST_SUBJECTS:
        return []
    splitter = StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed % 2**32)
    return [subjects[fitted_on] for fitted_on, _ in splitter.split(subjects, positive)]


def out_of_fold_logit(
    teachers: Sequence[Teacher], features: np.ndarray, subject: np.ndarray
) -> np.ndarray:
    """[n] by the teachers that know no label of the sample's subject; NaN without any."""
    total, weight = np.zeros(len(features)), np.zeros(len(features))
    for teacher in teachers:
        asked = np.flatnonzero(~np.isin(subject, teacher.subjects))
        total[asked] += teacher.weight * teacher.model.logit(features[asked])
        weight[asked] += teacher.weight
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = total / weight
    return mean


def knows_labels(config: RunConfig, store: Store) -> bool:
    """Whether the networks may know labels that are learned here, by the bundle they began from.

    Raises:
        BundleError: there is no such bundle any more.
    """
    init = config.finetune.init
    if init is None:
        return False
    subjects = np.unique(store.samples["subject_id"].to_numpy()[learned_rows(config, store)])
    lineage = Fitted.read(init.bundle).lineage
    n_known = int(is_known(lineage, subjects, store.fitted.dataset_name).sum())
    if n_known:
        logger.warning(
            "finetune.init.bundle: has learned from %s of the %s subjects whose labels are learned "
            "here, so that what it makes of them is no word of somebody who does not know these: "
            "teachers, and the choice of relations, do without it",
            f"{n_known:,}",
            f"{len(subjects):,}",
        )
    return n_known > 0


class Features:
    """Flat features of samples and, where the network was pretrained, what it makes of them.

    Not if it began from a bundle that has learned from some whose labels are learned here: what
    such a network makes of them knows their labels in every fold.
    """

    def __init__(self, config: RunConfig, store: Store, model: ClinicalModel) -> None:
        self.config = config
        self.store = store
        is_asked = config.begins_trained and not knows_labels(config, store)
        self.model = model if is_asked else None
        self.width = 0 if self.model is None else model.width
        self.tabulator = Tabulator.of(config, store.sizes)

    def batches(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of the store and their features [B, F + D], in any order."""
        loader = make_loader(self.store.folder, self.config, rows, batch_size=BATCH_SIZE)
        for batch in loader:
            flat = self.tabulator.features(batch)
            yield batch.row.numpy(), np.concatenate([flat, self._embedding(batch)], axis=1)

    def table(self, rows: np.ndarray) -> np.ndarray:
        """[n, F + D] of rows, in their order."""
        found = list(self.batches(rows))
        order = np.concatenate([some for some, _ in found])
        table: np.ndarray = np.concatenate([flat for _, flat in found])[np.argsort(order)]
        return table[np.argsort(np.argsort(rows))]

    @torch.no_grad()
    def _embedding(self, batch: ClinicalBatch) -> np.ndarray:
        if self.model is None:
            return np.empty((len(batch), 0), dtype=np.float32)
        was_training = self.model.training
        self.model.eval()
        embedding = self.model.embed(batch).float().numpy()
        self.model.train(was_training)
        return embedding
