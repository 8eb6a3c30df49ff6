"""From a prepared store and a configuration to a trained model."""

from clinical.batch import ClinicalBatch, Neighbours
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.datamodule import make_loader
from clinical.encoders.encoding import Encoder
from clinical.errors import ConfigError, SchemaError
from clinical.experts.fitting import learned_rows
from clinical.extract.schema import Extract
from clinical.given_weights import local_weights
from clinical.modalities.codes import rows_of
from clinical.modalities.routing import matches
from clinical.model import ClinicalModel
from clinical.objectives import Objective, ReferenceEdges, build_objectives, travelling
from clinical.relations.embedded import by_embedding, embedded_store
from clinical.relations.linking import relations_of
from clinical.sections import PretrainConfig
from clinical.training.checkpoint import BESIDE, DONE, LAST, fit, is_finished, load_weights
from clinical.training.encodings import fastest_device, keep_encodings
from clinical.training.episodes import EpisodicStage, episodic
from clinical.training.finetune import FinetuneStage
from clinical.training.keys import key_embedding
from clinical.training.linear_start import start_linearly
from clinical.training.members import Member, members
from clinical.training.pretrain import PretrainStage
from clinical.training.probe import Probe, make_probe
from clinical.training.recipes import RECIPES, add_adapters
from clinical.training.relevance import kept_open, relevances, store_edges, write_relevances
from clinical.training.seeds import derive_seed, seed_globals
from clinical.training.stage import References
from clinical.training.teaching import teacher_risks

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
import polars as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

logger = logging.getLogger(__name__)

REFERENCE_BATCH = 128

Encodings = Mapping[str, str]
"""Frozen modality -> digest by which a loader finds what its weights made of the rows."""


def build_model(config: RunConfig, store: Store) -> ClinicalModel:
    """A new model of the store's sizes, with pretrained weights where the configuration has any.

    Raises:
        ConfigError: weights that do not fit, or for an encoder that takes none.
    """
    seed_globals(config.seed, "weights")
    model = ClinicalModel(
        config,
        store.sizes,
        n_reference=len(store.reference_rows),
        answers=store.fitted.answers(config),
    )
    model.use_statistics(store.fitted.statistics)
    for name, modality in config.modalities.items():
        weights = local_weights(name, modality)
        if weights is None:
            continue
        try:
            cast(Encoder, model.encoders[name]).load_weights(weights)
        except ConfigError as error:
            raise ConfigError(f"modalities.{name}: {error}") from error
    if config.trainer.compile:
        model.compile()
    return model


def load_pretrained(member: Member, model: ClinicalModel) -> None:
    """Put a network's pretrained weights into a model of the same sizes.

    Heads of another sort stay as they are: pretraining teaches none of them.

    Raises:
        ConfigError: there are none, or they are of another version.
    """
    load_weights(model, _pretrained_weights(member), unless_others="heads.")


def pretrained_objectives(member: Member, model: ClinicalModel) -> dict[str, Objective]:
    """What pretraining learned besides, and is asked again; of a model that it is in.

    Raises:
        ConfigError: there is none, or it is of another version.
    """
    objectives = build_objectives(travelling(member.config), model)
    if objectives:
        load_weights(nn.ModuleDict(objectives), _pretrained_weights(member, BESIDE))
    return objectives


def _pretrained_weights(member: Member, file: str = DONE) -> Path:
    weights = member.checkpoints / PretrainStage.name / file
    if not weights.exists():
        raise ConfigError(
            f"{weights}: there are no pretrained weights; run `clinical pretrain` first, or set "
            "pretrain=null"
        )
    return weights


def with_edges_by_embedding(config: RunConfig, store: Store) -> Store:
    """The store with the neighbours that pretraining chooses; itself where it chooses none.

    They are chosen by the first network of the ensemble, for all of them, before it learns from
    any label; those of a network whose weights are still the same are used again.

    Raises:
        ConfigError: it was not pretrained.
    """
    if not by_embedding(config):
        return store
    first = members(config)[0]
    weights = _pretrained_weights(first)

    def embed(store: Store) -> np.ndarray:
        model = build_model(first.config, store)
        load_pretrained(first, model)
        model.settle()  # bit for bit the network that a bundle will choose with
        return key_embedding(config, store, model)

    with weights.open("rb") as file:
        network = hashlib.file_digest(file, "sha256").hexdigest()
    return embedded_store(config, store, embed, network=network)


def references(
    config: RunConfig, store: Store, encodings: Encodings = MappingProxyType({})
) -> References | None:
    """The samples behind the embedding memory; None where no relation is configured."""
    if not config.graph.relations:
        return None
    rows = store.reference_rows
    loader = _loader(config, store, rows, encodings, size=REFERENCE_BATCH, stage=None)
    return References(loader, rows)


def _loader(
    config: RunConfig,
    store: Store,
    rows: np.ndarray,
    encodings: Encodings,
    *,
    size: int,
    stage: str | None,
) -> DataLoader[ClinicalBatch]:
    """Batches of rows, shuffled anew each epoch where a stage is named."""
    return make_loader(
        store.folder,
        config,
        rows,
        batch_size=size,
        shuffle_seed=None if stage is None else derive_seed(config.seed, stage, "order"),
        encodings=encodings,
    )


def pretraining_stage(
    member: Member,
    store: Store,
    model: ClinicalModel,
    *,
    settings: PretrainConfig,
    encodings: Encodings = MappingProxyType({}),
) -> PretrainStage:
    """The pretraining of a network, ready to be run."""
    config = member.config
    seed_globals(config.seed, "objectives")
    return PretrainStage(
        model,
        references(config, store, encodings),
        config=settings,
        objectives=_objectives(config, settings, store, model),
        feeds={name: relation.feeds for name, relation in relations_of(config).items()},
        key_codes=_key_codes(config, store),
        seed=config.seed,
        probe=None if settings.probe_every is None else _probe(config, store, encodings),
    )


def _probe(config: RunConfig, store: Store, encodings: Encodings) -> Probe:
    return make_probe(
        store,
        config.tasks,
        lambda rows: _loader(config, store, rows, encodings, size=REFERENCE_BATCH, stage=None),
        generator=np.random.default_rng(derive_seed(config.seed, "probe")),
    )


def pretrain_model(member: Member, store: Store, model: ClinicalModel, *, progress: bool) -> None:
    """Run the pretraining stage of the configuration, if it has one."""
    config = member.config
    settings = config.pretrain
    if settings is None or not config.is_pretrained:
        return
    folder = member.checkpoints / PretrainStage.name
    known = _encodings(config, store, model, folder)
    fit(
        pretraining_stage(member, store, model, settings=settings, encodings=known),
        train=_loader(
            config,
            store,
            store.rows("train"),
            known,
            size=settings.batch_size,
            stage=PretrainStage.name,
        ),
        tuning=_loader(
            config, store, store.rows("select"), known, size=settings.batch_size, stage=None
        ),
        epochs=settings.epochs,
        decay=config.finetune.average,
        patience=settings.patience,
        folder=folder,
        logs=member.logs,
        trainer=config.trainer,
        resume=config.resume,
        progress=progress,
    )


def _encodings(config: RunConfig, store: Store, model: ClinicalModel, folder: Path) -> Encodings:
    """What frozen weights make of the store, kept there unless the stage is finished."""
    if is_finished(folder, resume=config.resume):
        return {}
    return keep_encodings(config, store, model)


def _objectives(
    config: RunConfig, settings: PretrainConfig, store: Store, model: ClinicalModel
) -> dict[str, Objective]:
    objectives = build_objectives(settings.objectives, model)
    _, subject = np.unique(store.samples["subject_id"].to_numpy(), return_inverse=True)
    references = ReferenceEdges(
        subject=torch.from_numpy(subject),
        rows=torch.from_numpy(store.reference_rows),
        neighbours=_reference_edges(config, store),
    )
    for objective in objectives.values():
        objective.use_statistics(store.fitted.statistics)
        objective.use_references(references)
    return objectives


def _key_codes(config: RunConfig, store: Store) -> dict[str, torch.Tensor]:
    """Relation -> rows of the code vocabulary that its key may be, or may stand as."""
    learned = store.fitted.statistics.get("codes", {"vocabulary": [], "stands_as": {}})
    table = Extract.open(config.extract).codes()
    names = {*table["code"], *learned["vocabulary"], *learned["stands_as"]}
    codes = pl.DataFrame({"code": sorted(names)}, schema={"code": pl.String})
    found = {}
    for name, relation in relations_of(config).items():
        if relation.codes is not None:
            is_key = matches([relation.codes], where=f"graph.relations.{name}.codes")
            rows = rows_of(codes.filter(is_key)["code"].to_list(), learned, table)
            found[name] = torch.tensor(sorted(set(rows.values())), dtype=torch.int64)
    return found


def finetune_model(member: Member, store: Store, model: ClinicalModel, *, progress: bool) -> None:
    """Run the fine-tuning stage on what has a label or a teacher's word to learn."""
    config, settings = member.config, member.config.finetune
    add_adapters(model, RECIPES[settings.recipe], seed=config.seed)
    known = store.is_labelled
    train, select = learned_rows(config, store), store.rows("select")
    if known[select].any():
        select = select[known[select]]
    elif settings.keep == "best" or not len(select):
        raise SchemaError(
            "tasks: no sample of the tuning split's half that chooses the epoch has a label; "
            "label more tuning subjects, or set finetune.keep=last"
        )
    folder = member.checkpoints / FinetuneStage.name
    finished = is_finished(folder, resume=config.resume)
    encodings = _encodings(config, store, model, folder)
    if not finished and config.begins_trained:
        _look_around(member, store, model, encodings)
    risks = teacher_risks(config, store, model) if settings.teachers and not finished else {}
    told = np.logical_or.reduce([known, *(~risk.isnan().numpy() for risk in risks.values())])
    train = train[told[train]]
    beside = references(config, store, encodings)
    stage: FinetuneStage
    if settings.head == "prototypical":
        stage, batches = episodic(config, store, model, beside, rows=train, encodings=encodings)
    else:
        stage = FinetuneStage(
            model,
            beside,
            config=settings,
            tasks=config.tasks,
            teacher_risks=risks,
            seed=config.seed,
        )
        size = settings.batch_size
        batches = _loader(config, store, train, encodings, size=size, stage=stage.name)
    has_begun = config.resume and (folder / LAST).exists()
    if isinstance(stage, EpisodicStage) and not (finished or has_begun):
        stage.begin(device=fastest_device(config))
        has_begun = True
    if not finished and not has_begun and settings.start == "linear":
        if beside is not None and not config.begins_trained:
            beside.refresh(model, device=torch.device("cpu"))
        has_begun = start_linearly(
            model,
            lambda rows: _loader(
                config, store, rows, encodings, size=settings.batch_size, stage=None
            ),
            train,
            unlabelled=store.rows("train"),
            subject=store.samples["subject_id"].to_numpy(),
            target=stage.target,
            generator=np.random.default_rng(derive_seed(config.seed, "linear start")),
            device=fastest_device(config),
        )
    if not (finished or has_begun or settings.epochs):
        raise ConfigError(
            "finetune.recipe: linear_probe (epochs: 0) leaves only the linear start to learn the "
            "tasks, and they have more answers than half of fusion.width, or no label in train; "
            "choose another recipe, with epochs"
        )
    fit(
        stage,
        train=batches,
        tuning=_loader(config, store, select, encodings, size=settings.batch_size, stage=None),
        epochs=settings.epochs,
        decay=settings.average,
        patience=RECIPES[settings.recipe].patience(settings.patience),
        folder=folder,
        logs=member.logs,
        trainer=config.trainer,
        resume=config.resume,
        progress=progress,
    )


def _reference_edges(config: RunConfig, store: Store) -> dict[str, Neighbours]:
    """Relation -> the neighbours of every reference."""
    rows = store.reference_rows
    return {name: store_edges(store, name, rows) for name in config.graph.relations}


def _look_around(member: Member, store: Store, model: ClinicalModel, encodings: Encodings) -> None:
    """Find on what related patients agree, and close the relations that tell nothing.

    A pretrained network can say both before it learns from labels.
    """
    config = member.config
    found = references(config, store, encodings)
    if found is None:
        return
    found.refresh(model, device=torch.device("cpu"))
    subject = torch.from_numpy(store.fitted.reference_subject)
    agreed = model.find_directions(_reference_edges(config, store), subject)
    for name, n_found in agreed.items():
        logger.info("graph.relations.%s: neighbours agree along %d directions", name, n_found)
    if config.finetune.try_relations:
        told = relevances(config, store, model)
        write_relevances(member, told)
        model.keep_open(kept_open(config, told))


def scoring_memory(
    config: RunConfig, store: Store, model: ClinicalModel, *, device: torch.device
) -> torch.Tensor:
    """[N, D]: the references encoded with the weights that will score."""
    found = references(config, store, model.frozen_digests())
    if found is None:
        return torch.zeros(0, model.width)
    found.refresh(model.to(device), device=device)
    return model.memory.cpu().clone()
