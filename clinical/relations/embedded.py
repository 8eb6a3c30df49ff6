"""Edges by what a pretrained network makes of the samples: added to a store once there is one.

The store that pretraining reads stays as it is; fine-tuning reads another that lies inside it and
shares its shards.
"""

from clinical.cohort.fitted import Fitted
from clinical.cohort.store import FITTED, REFERENCE, SAMPLES, Store, draft_of, write_manifest
from clinical.config import RunConfig
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.relations.keys import Relation
from clinical.relations.linking import Population, fit_relations, link, relations_of

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[Store], NDArray[np.float64]]
"""[N, D] what a network makes of each sample of a store, NaN where nothing is visible."""

FOLDER = "embedded"
NETWORK = "embedded_by"


def by_embedding(config: RunConfig) -> dict[str, Relation]:
    """The relations whose keys a pretrained network gives."""
    return {name: each for name, each in relations_of(config).items() if each.by_embedding}


def check_pretrains(config: RunConfig) -> None:
    """Refuse relations by embedding where no network is ever pretrained.

    Raises:
        ConfigError: Naming the relation.
    """
    if config.is_pretrained:
        return
    for name in by_embedding(config):
        raise ConfigError(
            f"graph.relations.{name}: compares patients by the embedding of a pretrained network, "
            "and there is no pretraining; give pretrain.epochs, or compare them by: features"
        )


def embedded_store(config: RunConfig, store: Store, embed: Embed, *, network: str) -> Store:
    """The store of a run with its edges by embedding, made or used again.

    Args:
        config: Of the run.
        store: As it was prepared, without those edges.
        embed: Asked once, if at all.
        network: What tells the network behind `embed` from others.
    """
    folder = store.folder / FOLDER
    if (found := _find(folder, network)) is not None:
        return found
    population = replace(
        Population.of_store(config, store, Extract.open(config.extract)), embedding=embed(store)
    )
    learned = fit_relations(config, by_embedding(config), population, store.reference_rows)
    before = store.fitted
    fitted = replace(
        before,
        parameters={**before.parameters, **learned[0]},
        reference={**before.reference, **learned[1]},
    )
    with draft_of(folder) as draft:
        for name in (SAMPLES, REFERENCE):
            shutil.copyfile(store.folder / name, draft / name)
        shutil.copytree(store.folder / "neighbours", draft / "neighbours")
        (draft / FITTED).mkdir()
        fitted.write(draft / FITTED)
        shards = [f"../{name}" for name in store.manifest["shards"]]
        write_manifest(draft, {**store.manifest, "shards": shards, NETWORK: network})
        add_edges(config, draft, population, fitted)
    return Store.open(folder)


def add_edges(config: RunConfig, folder: Path, population: Population, fitted: Fitted) -> None:
    """Fill the tables of edges by embedding in the folder of a store that is nobody's yet.

    Args:
        config: Of the run that trained the model.
        folder: Of a complete store of these samples.
        population: With their embedding.
        fitted: What is known of the references, with the parameters of these relations.
    """
    manifest = Store.open(folder).manifest
    relations = by_embedding(config)
    tables = folder / "neighbours"
    linked = link(config, relations, population, fitted, context=None, folder=tables)
    manifest["counts"]["neighbours"].update(linked)
    write_manifest(folder, manifest)


def _find(folder: Path, network: str) -> Store | None:
    """The store of a network, if it is complete."""
    try:
        found = Store.open(folder)
    except SchemaError:
        return None
    return found if found.manifest.get(NETWORK) == network else None
