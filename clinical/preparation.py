"""From an extract to a store: cut, learn from train, write, relate.

A store is written beside its place and renamed when it is complete, so that nothing half-written
is ever used. One made of the same extract, samples, labels and settings is used again.
"""

from clinical.answers import Answer
from clinical.cohort.columns import write_table
from clinical.cohort.counts import NOTHING_VISIBLE, describe, sum_counts
from clinical.cohort.fingerprint import Identity
from clinical.cohort.fitted import Fitted
from clinical.cohort.labels import learn_answers, numbered
from clinical.cohort.samples import scoring_cohort, training_cohort
from clinical.cohort.store import (
    CONTEXT,
    FITTED,
    FORMAT_VERSION,
    OTHER_CONTEXT,
    OWN_CONTEXT,
    REFERENCE,
    SAMPLES,
    Store,
    draft_of,
    write_manifest,
)
from clinical.cohort.tasks import TASK_BUILDERS
from clinical.config import RunConfig, pick
from clinical.errors import SchemaError
from clinical.extract.schema import Extract
from clinical.modalities import MODALITIES, Counts, Statistics
from clinical.modalities.shards import (
    ScratchJob,
    ShardJob,
    cut_and_write,
    cut_to_scratch,
    fit_modalities,
    jobs_of,
    modalities_of,
    over_shards,
    write_from_scratch,
)
from clinical.relations import RELATIONS
from clinical.relations.embedded import Embed, add_edges, by_embedding, check_pretrains
from clinical.relations.linking import (
    Population,
    check_tables,
    fit_relations,
    link,
    queries_of,
    relations_of,
)

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["Fitted", "Store", "prepare", "prepare_for_scoring"]

logger = logging.getLogger(__name__)


def prepare(config: RunConfig, folder: Path) -> Store:
    """The store of a training run, made or used again.

    Args:
        config: Extract, tasks, modalities, relations, seed and splits are what counts.
        folder: Where the store belongs; one of other data or settings is replaced.

    Raises:
        ConfigError: A relation cannot work with the modalities or without pretraining, a label
            folder or the tuning split is missing, or `folder` holds something else.
        SchemaError: The extract, its samples, labels or splits are not usable.
    """
    folder = Path(folder)
    relations = relations_of(config)
    for relation in relations.values():
        relation.check(config.modalities)
    check_pretrains(config)
    extract = Extract.open(config.extract)
    check_tables(extract, relations)
    identity = Identity.of(config, extract, _settings(config))
    if (store := identity.find(folder)) is not None:
        logger.info("%s: already prepared", folder)
        return store
    extract.check_subjects_apart()
    cohort = training_cohort(extract, config)
    answers = learn_answers(config, cohort)
    cohort = numbered(cohort, answers)
    with draft_of(folder) as draft:
        shards = [
            ScratchJob(job, draft / _shard_name(number))
            for number, job in enumerate(_jobs(extract, config, cohort))
        ]
        workers = config.trainer.workers
        for _ in over_shards(cut_to_scratch, shards, workers=workers):
            pass
        statistics = fit_modalities(config, shards, _train_rows(cohort), codes=extract.codes())
        jobs = [(shard, statistics) for shard in shards]
        counts = sum_counts(over_shards(write_from_scratch, jobs, workers=workers))
        salt = hashlib.blake2b(identity.made_from.encode(), digest_size=16).hexdigest()
        folders = [shard.folder for shard in shards]
        population = _populate(config, extract, cohort, statistics, folders, salt)
        fitted, reference = _fit_reference(config, population, statistics, answers)
        parts = _Assembly(config, population, fitted, reference, identity, counts, "train")
        parts.write(draft, context=None, where=None)
    return Store.open(folder)


def prepare_for_scoring(
    config: RunConfig,
    fitted: Fitted,
    extract: Path,
    folder: Path,
    *,
    samples: pl.DataFrame | None = None,
    context: Path | None = None,
    embed: Embed | None = None,
) -> Store:
    """The store of an extract to score, with what was learned elsewhere.

    Args:
        config: Of the run that trained the model.
        fitted: What that run learned from train.
        extract: A MEDS folder; it needs neither splits nor labels.
        folder: Where the store belongs.
        samples: `subject_id, prediction_time` to score; by default those of the extract.
        context: An extract whose own samples are contemporaries for relations in time; it may be
            `extract` itself.
        embed: What the pretrained network makes of the samples; only for relations by embedding.

    Raises:
        ConfigError: `folder` holds something else than a store.
        SchemaError: The extract is not usable, or nothing in it is visible.
    """
    folder = Path(folder)
    scored = Extract.open(extract)
    scored.check_subjects_apart()
    answers = fitted.answers(config)
    cohort = numbered(scoring_cohort(scored, config, samples=samples), answers)
    looks_around = any(relation.in_time for relation in relations_of(config).values())
    with draft_of(folder) as draft:
        population, counts = _written(config, fitted, scored, cohort, draft)
        others, where = None, None
        if context is not None and looks_around:
            there = Extract.open(context)
            # Samples chosen by the caller must not change who the contemporaries are.
            if there.path == scored.path and samples is None:
                others, where = population, OWN_CONTEXT
            else:
                others, where = _write_context(config, fitted, there, draft), OTHER_CONTEXT
        nobody = np.empty(0, dtype=np.int64)
        identity = Identity.of(config, scored, _settings(config))
        parts = _Assembly(config, population, fitted, nobody, identity, counts, "elsewhere")
        parts.write(draft, context=others, where=where)
        if by_embedding(config):
            assert embed is not None, "edges by embedding need a network"
            population = replace(population, embedding=embed(Store.open(draft)))
            add_edges(config, draft, population, fitted)
    return Store.open(folder)


@dataclass(frozen=True)
class _Assembly:
    """All that a finished store holds beside the arrays of its shards."""

    config: RunConfig
    population: Population
    fitted: Fitted
    reference: NDArray[np.int64]
    identity: Identity
    counts: dict[str, Counts]
    fitted_on: str

    def write(self, folder: Path, *, context: Population | None, where: str | None) -> None:
        """Write them; `store.json`, which makes the store complete, comes last."""
        samples = self.population.samples
        samples.write_ipc(folder / SAMPLES)
        write_table(folder / REFERENCE, {"row": self.reference})
        (folder / FITTED).mkdir()
        self.fitted.write(folder / FITTED)
        (folder / "neighbours").mkdir()
        linked = link(
            self.config,
            relations_of(self.config),
            self.population,
            self.fitted,
            context=context,
            folder=folder / "neighbours",
        )
        answers = self.fitted.answers(self.config)
        manifest = {
            "format_version": FORMAT_VERSION,
            "fitted_on": self.fitted_on,
            "seed": self.config.seed,
            "extract_fingerprint": self.identity.extract,
            "made_from": self.identity.made_from,
            "dataset_name": self.population.extract.dataset_name,
            "settings": self.identity.settings,
            "n_samples": samples.height,
            "shards": [shard.name for shard in self.population.shards],
            "sizes": self.fitted.sizes(self.config),
            "context": where,
            "counts": {
                **describe(self.config, answers, samples),
                "neighbours": linked,
                **self.counts,
            },
        }
        write_manifest(folder, manifest)


def _written(
    config: RunConfig, fitted: Fitted, extract: Extract, cohort: pl.DataFrame, folder: Path
) -> tuple[Population, dict[str, Counts]]:
    """Cut and write all shards of an extract with statistics learned elsewhere."""
    jobs = [
        (job, folder / _shard_name(number), fitted.statistics)
        for number, job in enumerate(_jobs(extract, config, cohort))
    ]
    counts = sum_counts(over_shards(cut_and_write, jobs, workers=config.trainer.workers))
    folders = [shard for _, shard, _ in jobs]
    population = _populate(config, extract, cohort, fitted.statistics, folders, fitted.salt)
    return population, counts


def _write_context(config: RunConfig, fitted: Fitted, extract: Extract, draft: Path) -> Population:
    """A store inside the draft for the contemporaries, who get no neighbours of their own."""
    extract.check_subjects_apart()
    folder = draft / CONTEXT
    folder.mkdir()
    cohort = numbered(scoring_cohort(extract, config), fitted.answers(config))
    population, counts = _written(config, fitted, extract, cohort, folder)
    alone = config.model_copy(update={"graph": config.graph.model_copy(update={"relations": {}})})
    nobody = np.empty(0, dtype=np.int64)
    identity = Identity.of(config, extract, _settings(config))
    parts = _Assembly(alone, population, fitted, nobody, identity, counts, "elsewhere")
    parts.write(folder, context=None, where=None)
    return population


def _jobs(extract: Extract, config: RunConfig, cohort: pl.DataFrame) -> list[ShardJob]:
    return jobs_of(extract, config, cohort, queries_of(relations_of(config)))


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}"


def _train_rows(cohort: pl.DataFrame) -> list[NDArray[np.int64]]:
    """The train samples of each shard, as rows of it."""
    parts = [rows["split"] for _, rows in cohort.group_by("shard", maintain_order=True)]
    return [np.flatnonzero((split == "train").fill_null(False).to_numpy()) for split in parts]


def _populate(
    config: RunConfig,
    extract: Extract,
    cohort: pl.DataFrame,
    statistics: Mapping[str, Statistics],
    shards: Sequence[Path],
    salt: str,
) -> Population:
    """Open the written shards and say who has what.

    Raises:
        SchemaError: Nothing of any sample is visible.
    """
    readers = {
        name: modality.open(shards, statistics[name])
        for name, modality in modalities_of(config).items()
    }
    columns = {f"present.{name}": reader.present for name, reader in readers.items()}
    anything = np.any(list(columns.values()), axis=0)
    if not anything.any():
        raise SchemaError(
            f"data: nothing is visible of any of the {cohort.height} samples; check prediction "
            "times, window_hours and the modalities"
        )
    reason = pl.when(~pl.Series(anything)).then(pl.lit(NOTHING_VISIBLE)).alias("reason")
    samples = cohort.drop("shard").with_columns(
        *(pl.Series(name, present) for name, present in columns.items()), reason
    )
    return Population(extract, samples, readers, statistics, shards, salt)


def _fit_reference(
    config: RunConfig,
    population: Population,
    statistics: Mapping[str, Statistics],
    answers: Mapping[str, Answer],
) -> tuple[Fitted, NDArray[np.int64]]:
    """What relations learn from train, and the rows of the reference."""
    is_train = (population.samples["split"] == "train").fill_null(False).to_numpy()
    rows = population.seen[is_train[population.seen]]
    if not len(rows):
        raise SchemaError(
            "data: nothing is visible of any train sample; check prediction times, window_hours "
            "and the splits"
        )
    parameters, reference = fit_relations(config, relations_of(config), population, rows)
    modalities = modalities_of(config)
    fitted = Fitted(
        statistics=statistics,
        parameters=parameters,
        reference=reference,
        reference_subject=population.subject[rows],
        reference_sample=population.sample[rows],
        modality_sizes={name: m.sizes(statistics[name]) for name, m in modalities.items()},
        salt=population.salt,
        dataset_name=population.extract.dataset_name,
        consistent_calendar=population.extract.consistent_calendar,
        tasks={name: answer.learned for name, answer in answers.items() if answer.learned},
    )
    return fitted, rows


def _settings(config: RunConfig) -> dict[str, Any]:
    """The part of a configuration that a store depends on: an encoder's width is none of it."""
    modalities = {
        name: {
            "window_hours": config.modality_window(name),
            "select": modality.select,
            **pick(modality.options, MODALITIES[name]),
        }
        for name, modality in config.modalities.items()
    }
    relations = {
        name: {
            "kind": relation.kind or name,
            "k": relation.k,
            **pick(relation.options, RELATIONS[relation.kind or name]),
        }
        for name, relation in config.graph.relations.items()
    }
    tasks = {
        name: {
            "kind": task.kind,
            "labels": task.labels,
            "builder": task.builder,
            **({"horizons": task.horizons} if task.horizons else {}),
            **({"min_subjects": task.min_subjects} if task.min_subjects else {}),
            **(pick(task.options, TASK_BUILDERS[task.builder]) if task.builder else {}),
        }
        for name, task in config.tasks.items()
    }
    plain = {
        "seed": config.seed,
        "splits": config.splits,
        "tasks": tasks,
        "modalities": modalities,
        "relations": relations,
    }
    settings: dict[str, Any] = json.loads(json.dumps(plain, default=str))
    return settings
