"""A linear probe: what a network that learns without labels lets a line tell of the tasks.

So a user sees whether pretraining helps before spending the night. What is found changes nothing:
neither weights nor random state nor which epoch is chosen.
"""

from clinical.batch import ClinicalBatch
from clinical.cohort.store import Store
from clinical.config import TaskConfig, TaskKind
from clinical.model import ClinicalModel
from clinical.training.ridge import Array, fit_lines

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

logger = logging.getLogger(__name__)

MOST_SAMPLES = 2_000
"""Labelled ones of each of train and select, by chance: more would take longer than an epoch."""
FEWEST_LABELS = 8
"""Of train; of fewer, leaving one out says nothing."""
QUIET = 1e-6
"""Of the widest spread: columns that vary less are constant but for rounding."""
JUDGED: frozenset[TaskKind] = frozenset({"binary", "multilabel", "multiclass"})
"""Kinds whose answers an AUROC can be computed of."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Read:
    """What a network makes of some samples, and what is known of them.

    Attributes:
        row: [n] of the store.
        summaries: [n, F] of all modalities, 0 where absent, and whether they are there.
        wanted: task -> [n, C] 0 or 1 for each class, NaN where unknown.
    """

    row: Rows
    summaries: Array
    wanted: Mapping[str, Array]


@dataclass(frozen=True)
class Probed:
    """What was found of a task.

    Attributes:
        auroc: on select, the mean over classes where there are several.
        error: its standard error, of the class with the fewest labels of either kind.
    """

    auroc: float
    error: float


class Probe:
    """Ridge regression on a network's summaries of train, judged by its AUROC on select.

    The summaries are those of the modalities, as the trunk reads them, before any neighbour is
    heard: where fine-tuning's linear start begins, too. What that makes use of besides, layers that
    read the data as they are, is left out: it is there without pretraining. Each column counts in
    its own spread, or whatever pretraining makes loud would hide the rest.

    Args:
        tasks: name -> task; those without an AUROC are told and passed over.
        train: batches of the labelled samples that are fitted.
        select: batches of those that are judged.
        subject: [N] whose sample each row of the store is.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskConfig],
        *,
        train: Iterable[ClinicalBatch],
        select: Iterable[ClinicalBatch],
        subject: Rows,
    ) -> None:
        self.tasks = [name for name, task in tasks.items() if task.kind in JUDGED]
        self.train = train
        self.select = select
        self.subject = subject
        self._told: set[str] = set()
        for name in [name for name in tasks if name not in self.tasks]:
            self._tell(name, f"is not probed: of a {tasks[name].kind} task there is no AUROC")

    @torch.no_grad()
    def __call__(self, model: ClinicalModel, *, device: torch.device) -> dict[str, Probed]:
        """Task -> what is found of it.

        A task of which too little is known is left out, and why is logged once.
        """
        if not self.tasks:
            return {}
        was_training = model.training
        model.eval()
        train, select = (self._read(model, some, device) for some in (self.train, self.select))
        model.train(was_training)
        found: dict[str, Probed] = {}
        for task in self.tasks:
            aurocs = self._aurocs(task, train, select)
            if not aurocs:
                self._tell(task, f"is not probed: {_lacking(train.wanted[task])}", logging.WARNING)
                continue
            auroc, truth = float(np.mean(aurocs)), select.wanted[task]
            found[task] = Probed(auroc, _standard_error(truth, auroc))
            n = int((~np.isnan(truth)).any(1).sum())
            told = f"is judged on {n} tuning samples, give or take {found[task].error:.2f}"
            self._tell(task, told)
        return found

    def _tell(self, task: str, what: str, level: int = logging.INFO) -> None:
        if task not in self._told:
            logger.log(level, "pretrain.probe_every: %s %s", task, what)
        self._told.add(task)

    def _read(
        self, model: ClinicalModel, batches: Iterable[ClinicalBatch], device: torch.device
    ) -> Read:
        rows, summaries = [], []
        wanted: dict[str, list[Array]] = {task: [] for task in self.tasks}
        for batch in batches:
            encoded = model.encode(batch.to(device))
            present = encoded.present[..., None]
            rows.append(batch.row.numpy())
            known = torch.cat([encoded.summaries * present, present.to(encoded.summaries)], 2)
            summaries.append(_array(known.flatten(1)))
            for task in self.tasks:
                value, is_known = model.head(task).wanted(batch.targets[task])
                wanted[task].append(_array(value.masked_fill(~is_known, torch.nan)))
        if not rows:
            nothing = np.zeros((0, 1))
            return Read(np.zeros(0, np.int64), nothing, dict.fromkeys(self.tasks, nothing))
        return Read(
            np.concatenate(rows),
            np.concatenate(summaries),
            {task: np.concatenate(parts) for task, parts in wanted.items()},
        )

    def _aurocs(self, task: str, train: Read, select: Read) -> list[float]:
        """Of each class that has both answers; those known of the same samples share a fit."""
        if not len(train.row) or not len(select.row):
            return []
        given, truth = train.wanted[task], select.wanted[task]
        kinds, of_kind = np.unique(~np.isnan(given), axis=1, return_inverse=True)
        found = []
        for kind, rows in enumerate(kinds.T):
            own = [
                c
                for c in np.flatnonzero(of_kind.reshape(-1) == kind)
                if _varies(given[:, c]) and _varies(truth[:, c])
            ]
            if rows.sum() < FEWEST_LABELS or not own:
                continue
            spread = train.summaries[rows].std(0)
            spread[spread <= QUIET * spread.max()] = 1.0
            lines = fit_lines(
                [train.summaries[rows] / spread],
                given[rows][:, own],
                self.subject[train.row[rows]],
                are_probabilities=False,
            )
            said = lines([select.summaries / spread])
            for place, column in enumerate(own):
                known = ~np.isnan(truth[:, column])
                found.append(roc_auc_score(truth[known, column], said[known, place]))
        return found


def _lacking(given: Array) -> str:
    """Why there is no AUROC, by the labels of train [n, C]."""
    if (~np.isnan(given)).sum(0).max() < FEWEST_LABELS:
        return f"fewer than {FEWEST_LABELS} train samples have a label"
    if not any(_varies(column) for column in given.T):
        return "the labels of train are all the same"
    return "select has no labels of both kinds"


def _standard_error(truth: Array, auroc: float) -> float:
    """Of an AUROC of the rarest class in [n, C] (Hanley & McNeil, 1982,
    doi:10.1148/radiology.143.1.7063747)."""
    counts = [(np.nansum(column), np.nansum(1 - column)) for column in truth.T if _varies(column)]
    with_it, without = min(counts, key=lambda pair: pair[0] * pair[1])
    above, below = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (with_it - 1) * (above - auroc**2)
    variance += (without - 1) * (below - auroc**2)
    return float(np.sqrt(max(variance, 0.0) / (with_it * without)))


def _varies(labels: Array) -> bool:
    return len(np.unique(labels[~np.isnan(labels)])) > 1


def make_probe(
    store: Store,
    tasks: Mapping[str, TaskConfig],
    read: Callable[[Rows], Iterable[ClinicalBatch]],
    *,
    generator: np.random.Generator,
) -> Probe:
    """The probe of a store, of at most `MOST_SAMPLES` labelled samples of train and of select.

    Args:
        store: what was prepared.
        tasks: of the run.
        read: batches of some rows, in any order.
        generator: draws the samples, of which not all are read.
    """

    def some(split: str) -> Rows:
        rows = store.rows(split)
        rows = rows[store.is_labelled[rows]]
        chosen = generator.choice(rows, min(MOST_SAMPLES, len(rows)), replace=False)
        found: Rows = np.sort(chosen)
        return found

    return Probe(
        tasks,
        train=read(some("train")),
        select=read(some("select")),
        subject=store.samples["subject_id"].to_numpy(),
    )


def _array(values: torch.Tensor) -> Array:
    found: Array = values.double().cpu().numpy()
    return found
