"""What is drawn in a learning curve: networks and trees that learn the labels of one draw."""

from clinical.bundle import Bundle, Network
from clinical.calibration import sigmoid
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.experts.fitting import Flat, learned_rows, store_labels
from clinical.experts.lightgbm import LightGBM
from clinical.model import ClinicalModel
from clinical.predictor.panel import Panel
from clinical.training.build import (
    build_model,
    finetune_model,
    load_pretrained,
    scoring_memory,
)
from clinical.training.checkpoint import thread_limit
from clinical.training.members import members
from clinical.transfer import begin

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

PRETRAINED, SCRATCH, TREES = "pretrained", "scratch", "LightGBM"

Risks = NDArray[np.float64]


def few_labels(config: RunConfig) -> RunConfig:
    """The configuration with which a draw's labels, of train and tuning alike, are all learned.

    Of a few tuning labels a choice of the epoch, a calibration or a weight of experts would be
    chance, and a classical model learns them too. So nothing is chosen: the last epoch scores.
    """
    changed = {"learn_tuning": True, "keep": "last", "patience": None}
    finetune = config.finetune.model_copy(update=changed)
    return config.model_copy(update={"experts": [], "finetune": finetune})


def network_risks(
    config: RunConfig, store: Store, rows: NDArray[np.int64], *, pretrained_in: Path | None
) -> Risks:
    """[n] risks by networks that are fine-tuned on a store's labels; resumes in `config.out`.

    Args:
        config: of the line, with one binary task.
        store: with the labels that may be seen, as `labelled_store` leaves it.
        rows: of the samples to score; NaN where nothing is visible.
        pretrained_in: the run folder of the pretrained weights; None where there is no pretraining.
    """
    (task,) = config.tasks
    begun = config.model_copy(update={} if pretrained_in is None else {"out": pretrained_in})
    # Where there is pretraining, that began from the bundle.
    start = None if config.is_pretrained else begin(config, store)
    networks = []
    with thread_limit(config.trainer.threads):
        for member, source in zip(members(config), members(begun), strict=True):
            model = build_model(member.config, store)
            if config.is_pretrained:
                load_pretrained(source, model)
            elif start is not None:
                start.begin(member.number, model)
            finetune_model(member, store, model, progress=False)
            networks.append(_to_score(config, store, model))
        bundle = Bundle(
            config=config,
            fitted=store.fitted,
            networks=tuple(networks),
            experts={},
            stack={},
            calibration={},
            conformal={},
            answers=store.fitted.answers(config),
            folder=config.out,
        )
        said = Panel(bundle).opinions(store, rows)[0][task]
    return sigmoid(said.networks.mean(axis=0))


def _to_score(config: RunConfig, store: Store, model: ClinicalModel) -> Network:
    """The network as a bundle has it, its memory in half precision."""
    memory = scoring_memory(config, store, model, device=torch.device("cpu")).half().float()
    model.settle()
    model.eval()
    model.set_memory(memory)
    return Network(model, memory)


def tree_risks(config: RunConfig, store: Store, flat: Flat, rows: NDArray[np.int64]) -> Risks:
    """[n] risks by LightGBM on the flat features of the same inputs and labels.

    Args:
        config: of the line, with one binary task.
        store: with the labels that may be seen.
        flat: features of every sample that may be learned from, and of `rows`.
        rows: of the samples to score.
    """
    (task,) = config.tasks
    labels, learned = store_labels(store, task), learned_rows(config, store)
    known = learned[~np.isnan(labels[learned])]
    threads = config.trainer.threads or 1
    trees = LightGBM.fit(flat[known], labels[known], seed=config.seed, threads=threads)
    return sigmoid(trees.logit(flat[rows]))
