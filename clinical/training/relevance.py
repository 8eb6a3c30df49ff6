"""Which relations are worth asking: those whose neighbours tell what the patient alone doesn't.

A relation that tells nothing of the outcome still costs: its messages are one more thing to learn
from few labels. So, before a network learns from labels, the neighbours' word is tried on train
patients out of fold, beside what flat models make of the patient alone; only a relation that lowers
the log loss of a task by more than its standard error stays open. With too few labels to try it, a
relation is closed too: what cannot be tried on train could not be learned from it either.
"""

from clinical.batch import Neighbours
from clinical.calibration import fit_logistic
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.datamodule import make_loader
from clinical.experts.fitting import store_labels
from clinical.model import ClinicalModel
from clinical.places import replacing
from clinical.training.finetune import FinetuneStage
from clinical.training.members import Member, members
from clinical.training.teaching import Features, folds_of, out_of_fold_logit, teachers_of

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

logger = logging.getLogger(__name__)

EXPERTS = ("additive",)
"""Who says what the patient alone tells; nothing more need be installed for it."""
AGREED_PRIOR_SD = 1.0
"""Of what neighbours add to a logit, before any label is seen, by that on which they agree with
the patient."""
WHOLE_PRIOR_SD = 0.5
"""By all that they say."""
FREE_PRIOR_SD = 10.0
"""Of the intercept and of what is made of the patient alone: wide, and yet finite."""
MOST = 20_000
"""Labelled samples on which a relation is tried; of whole subjects, by chance."""
GATES_OF = 1000
FILE = "relations.json"
ERRORS = 1.0
"""Standard errors that the gain of one task must exceed."""


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

    def is_shown(self, *, n_tasks: int) -> bool:
        """Whether the gain exceeds its standard error, or more, the more tasks there are.

        So that of a relation that tells nothing of any task it is no likelier to seem so of one
        (Šidák, 1967, doi:10.2307/2283989).
        """
        by_chance = NormalDist().cdf(ERRORS) ** (1 / n_tasks)
        return self.gain > NormalDist().inv_cdf(by_chance) * self.error


Told = Mapping[str, Mapping[str, Relevance]]
"""By relation, then by task; without the tasks that have too few labels to tell."""


def relevances(config: RunConfig, store: Store, model: ClinicalModel) -> Told:
    """What the neighbours by each relation add about each binary task; nothing without one.

    Args:
        config: of the network, with its seed.
        store: what was prepared.
        model: pretrained, its memory up to date.
    """
    if not config.binary_tasks:
        return {name: {} for name in config.graph.relations}
    rows, features = store.rows("train"), Features(config, store, model)
    labels = {task: store_labels(store, task)[rows] for task in config.binary_tasks}
    subject = store.samples["subject_id"].to_numpy()[rows]
    known = np.any([~np.isnan(of_task) for of_task in labels.values()], axis=0)
    known = np.flatnonzero(known)
    known = known[_by_chance(subject[known], config.seed)]
    rows, subject = rows[known], subject[known]
    labels = {task: of_task[known] for task, of_task in labels.items()}
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
        for name, (word, prior, linked) in words.items():
            some = linked[asked]
            added = _added(
                alone[some],
                word[asked][some],
                of_task[asked][some],
                subject[asked][some],
                prior=prior,
                seed=config.seed,
            )
            if added is not None:
                found[name][task] = added
    return found


def shown(told: Told) -> frozenset[str]:
    """Relations that tell something of at least one task."""
    return frozenset(
        name
        for name, tasks in told.items()
        if any(each.is_shown(n_tasks=len(tasks)) for each in tasks.values())
    )


def _by_chance(subject: np.ndarray, seed: int) -> np.ndarray:
    """[at most MOST] places of whole subjects, in the order that they had."""
    subjects, place, counts = np.unique(subject, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(subjects))
    kept = np.zeros(len(subjects), dtype=bool)
    kept[order[counts[order].cumsum() <= MOST]] = True
    return np.flatnonzero(kept[place])


def kept_open(config: RunConfig, told: Told) -> frozenset[str]:
    """Relations that are shown to tell something, or all: of other than binary tasks none is tried,
    so that any may tell something of those."""
    is_tried = config.tasks.keys() == config.binary_tasks.keys()
    return shown(told) if is_tried else frozenset(told)


def write_relevances(member: Member, told: Told) -> None:
    """Say what was found, and leave it beside the network's weights for `relation_figures`."""
    others = sorted(member.config.tasks.keys() - member.config.binary_tasks.keys())
    if others:
        names = ", ".join(others)
        logger.info("graph.relations: all stay open; none can be tried for %s", names)
    for relation, tasks in told.items():
        if not tasks and not others:
            logger.warning(
                "graph.relations.%s: closed, since no task has labels enough to tell; "
                "finetune.try_relations=false keeps it open",
                relation,
            )
        for task, found in tasks.items():
            logger.info(
                "graph.relations.%s: its neighbours tell %s of %s that the patients themselves "
                "don't (%+.4f nats, standard error %.4f)",
                relation,
                "something" if found.is_shown(n_tasks=len(tasks)) else "nothing",
                task,
                found.gain,
                found.error,
            )
    plain = {name: {t: asdict(r) for t, r in tasks.items()} for name, tasks in told.items()}
    with replacing(_file(member)) as draft:
        draft.write_text(json.dumps(plain), encoding="utf-8")


def relation_figures(
    config: RunConfig, store: Store, models: Sequence[ClinicalModel], rows: np.ndarray
) -> dict[str, Any]:
    """For each relation: in how many networks it is open, why, and how far it is let in.

    Args:
        config: of the run.
        store: what was prepared.
        models: the networks that score, as they were read from the bundle.
        rows: of the store, on which the gates are read; the first `GATES_OF` of them.
    """
    gates = [_gates(config, store, model, rows[:GATES_OF]) for model in models]
    tried = [_read(member) for member in members(config)]
    figures: dict[str, Any] = {}
    for name in config.graph.relations:
        open_ones = [i for i, model in enumerate(models) if name in model.open_relations]
        linked, first = gates[0][name]
        let_in = [first, *(each[name][1] for each in gates[1:])]
        figures[name] = {
            "networks": len(models),
            "open": len(open_ones),
            "linked": linked,
            "gate": float(np.mean([let_in[i] for i in open_ones])) if open_ones else 0.0,
            "tried": {
                task: _mean_relevance([told[name][task] for told in tried if task in told[name]])
                for task in config.tasks
                if any(task in told.get(name, {}) for told in tried)
            },
        }
    return figures


def _file(member: Member) -> Path:
    return member.checkpoints / FinetuneStage.name / FILE


def _read(member: Member) -> dict[str, Any]:
    path = _file(member)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _mean_relevance(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Over the networks that tried it."""
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}


@torch.inference_mode()
def _gates(
    config: RunConfig, store: Store, model: ClinicalModel, rows: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Relation -> the share of rows with a neighbour, and the mean gate of those."""
    loader = make_loader(
        store.folder, config, rows, batch_size=128, encodings=model.frozen_digests()
    )
    linked = dict.fromkeys(model.relations, 0)
    total = dict.fromkeys(model.relations, 0.0)
    for batch in loader:
        outputs = model(batch)
        for name in model.relations:
            linked[name] += int((batch.neighbours[name].rows >= 0).any(1).sum())
            total[name] += float(outputs.gates[name].sum())
    n = max(1, len(rows))
    return {name: (linked[name] / n, total[name] / max(1, linked[name])) for name in linked}


def store_edges(store: Store, relation: str, rows: np.ndarray) -> Neighbours:
    """The neighbours of rows of a store by one relation."""
    columns = store.neighbours(relation)
    near, weight = (torch.from_numpy(columns[name].take(rows)) for name in ("rows", "weight"))
    return Neighbours(near, weight)


def _word(
    store: Store, model: ClinicalModel, relation: str, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the neighbours of store rows say: their mean memory row and their number.

    Returns:
        [n, R + D + 1]: along the directions on which neighbours agree, and all of it; [R + D + 1]
        ridge of each column; and [n] bool, who has a neighbour.
    """
    edges = store_edges(store, relation, rows)
    linked = (edges.rows >= 0).numpy()
    mean = model.reference_memory.means(edges).cpu().numpy()
    agreed = mean @ model.directions(relation).cpu().numpy()
    whole = np.column_stack([mean, np.log1p(linked.sum(1))])
    prior = [
        np.full(part.shape[1], part.shape[1] / sd**2)
        for part, sd in ((agreed, AGREED_PRIOR_SD), (whole, WHOLE_PRIOR_SD))
    ]
    word = np.hstack([agreed, whole]).astype(np.float64)
    return word, np.concatenate(prior), np.asarray(linked.any(axis=1))


def _added(
    alone: np.ndarray,
    word: np.ndarray,
    labels: np.ndarray,
    subject: np.ndarray,
    *,
    prior: np.ndarray,
    seed: int,
) -> Relevance | None:
    """The gain of `word` [n, P] beside the logit `alone` [n]; None where it cannot be told."""
    folds = folds_of(labels, subject, seed) if len(labels) else []
    if not folds:
        return None
    spread = word.std(axis=0)
    word = (word - word.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    plain = np.column_stack([np.ones(len(alone)), alone])
    free = np.full(2, FREE_PRIOR_SD**-2.0)
    without = _cross_fitted(plain, free, labels, subject, folds)
    whole, ridge = np.column_stack([plain, word]), np.concatenate([free, prior])
    gain = without - _cross_fitted(whole, ridge, labels, subject, folds)
    return _over_subjects(gain, subject) if np.isfinite(gain).all() else None


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
