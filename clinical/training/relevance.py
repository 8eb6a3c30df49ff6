"""Which relations are worth asking: those whose neighbours tell what the patient alone doesn't.

A relation that tells nothing of the outcome still costs: its messages are one more thing to learn
from few labels. So, before a network learns from labels, the neighbours' word is tried on train
patients out of fold, beside what flat models make of the patient alone; only a relation that lowers
the log loss by more than chance would stays open.
"""

from clinical.calibration import fit_logistic
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.experts.fitting import store_labels
from clinical.model import ClinicalModel
from clinical.training.teaching import Features, folds_of, out_of_fold_logit, teachers_of

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

EXPERTS = ("additive",)
"""Who says what the patient alone tells; nothing more need be installed for it."""
WORD_PRIOR_SD = 0.5
"""Of what the neighbours add to a logit, before any label is seen."""
FLAT = 1e-6
"""Ridge of what is hardly held back."""
ERRORS = 1.0
"""Standard errors that the gain must exceed."""


@dataclass(frozen=True)
class Relevance:
    """What the neighbours by one relation add about one task.

    Attributes:
        gain: log loss that they save, nats a labelled train sample, out of fold.
        error: its standard error over subjects.
        n: labelled train samples with a neighbour.
    """

    gain: float
    error: float
    n: int

    @property
    def is_shown(self) -> bool:
        """Whether they add more than chance would."""
        return self.gain > ERRORS * self.error

    @property
    def words(self) -> str:
        """For a log."""
        said = "its neighbours tell something" if self.is_shown else "its neighbours tell nothing"
        return f"{said} ({self.gain:+.4f} nats, standard error {self.error:.4f})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"gain": self.gain, "error": self.error, "n": self.n}


def relevances(
    config: RunConfig, store: Store, model: ClinicalModel
) -> dict[str, dict[str, Relevance]]:
    """relation -> task -> what its neighbours add; without tasks that have too few labels to tell.

    Args:
        config: of the network, with its seed.
        store: what was prepared.
        model: pretrained, its memory up to date.
    """
    rows, features = store.rows("train"), Features(config, store, model)
    labels = {task: store_labels(store, task)[rows] for task in config.binary_tasks}
    known = np.any([~np.isnan(of_task) for of_task in labels.values()], axis=0)
    rows, labels = rows[known], {task: of_task[known] for task, of_task in labels.items()}
    subject = store.samples["subject_id"].to_numpy()[rows]
    table = features.table(rows)
    words = {name: _word(store, model, name, rows) for name in config.graph.relations}
    found: dict[str, dict[str, Relevance]] = {name: {} for name in words}
    for task, of_task in labels.items():
        teachers = list(
            teachers_of(
                config, task, table, of_task, subject, experts=EXPERTS, width=features.width
            )
        )
        if not teachers:
            continue
        asked = ~np.isnan(of_task)
        alone = out_of_fold_logit(teachers, table[asked], subject[asked])
        for name, (word, linked) in words.items():
            some = linked[asked]
            added = _added(
                alone[some],
                word[asked][some],
                of_task[asked][some],
                subject[asked][some],
                seed=config.seed,
            )
            if added is not None:
                found[name][task] = added
    return found


def shown(found: dict[str, dict[str, Relevance]]) -> frozenset[str]:
    """Relations that tell something of at least one task."""
    return frozenset(
        name for name, tasks in found.items() if any(r.is_shown for r in tasks.values())
    )


def _word(
    store: Store, model: ClinicalModel, relation: str, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the neighbours of store rows say: their mean memory row and number; and who has any.

    Returns:
        [n, D + 1] and [n] bool.
    """
    columns = store.neighbours(relation)
    near, weight = columns["rows"].take(rows), columns["weight"].take(rows)
    linked = near >= 0
    with torch.no_grad():
        said = model.reference_memory.read(torch.from_numpy(near)).cpu().numpy()
    total = (weight * linked).sum(1)
    mean = np.einsum("nk,nkd->nd", weight * linked, said) / np.maximum(total, 1e-9)[:, None]
    word = np.column_stack([mean, np.log1p(linked.sum(1))]).astype(np.float64)
    return word, np.asarray(linked.any(axis=1))


def _added(
    alone: np.ndarray, word: np.ndarray, labels: np.ndarray, subject: np.ndarray, *, seed: int
) -> Relevance | None:
    """The gain of `word` [n, P] beside the logit `alone` [n]; None with too few subjects."""
    folds = folds_of(labels, subject, seed) if len(labels) else []
    if not folds:
        return None
    spread = word.std(axis=0)
    word = (word - word.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    plain = np.column_stack([np.ones(len(alone)), alone])
    free, held_back = np.full(2, FLAT), np.full(len(word.T), len(word.T) / WORD_PRIOR_SD**2)
    without = _cross_fitted(plain, free, labels, subject, folds)
    whole, ridge = np.column_stack([plain, word]), np.concatenate([free, held_back])
    return _over_subjects(without - _cross_fitted(whole, ridge, labels, subject, folds), subject)


def _cross_fitted(
    design: np.ndarray,
    ridge: np.ndarray,
    labels: np.ndarray,
    subject: np.ndarray,
    folds: Sequence[np.ndarray],
) -> np.ndarray:
    """[n] log loss of each sample under a regression that was fitted without its fold."""
    losses = np.empty(len(labels))
    for subjects in folds:
        inside = np.isin(subject, subjects)
        fitted = fit_logistic(design[inside], labels[inside], ridge=ridge)
        line = design[~inside] @ fitted
        losses[~inside] = np.logaddexp(0.0, line) - labels[~inside] * line
    return losses


def _over_subjects(gain: np.ndarray, subject: np.ndarray) -> Relevance:
    """Mean over samples, and its standard error when subjects are drawn anew."""
    _, place = np.unique(subject, return_inverse=True)
    mean = float(gain.mean())
    residual = np.bincount(place, weights=gain - mean)
    n = len(residual)
    error = float(np.sqrt(np.square(residual).sum() * n / max(1, n - 1)) / len(gain))
    return Relevance(mean, error, len(gain))
