"""From an extract to the store of a training run: cut, learn from train, write, relate."""

from clinical.answers import Answer
from clinical.cohort.counts import sum_counts
from clinical.cohort.fingerprint import Identity
from clinical.cohort.fitted import Fitted
from clinical.cohort.labels import learn_answers, numbered
from clinical.cohort.samples import training_cohort
from clinical.cohort.store import Store, draft_of
from clinical.config import RunConfig
from clinical.errors import SchemaError
from clinical.extract.described import described
from clinical.extract.privacy import guard_preparation
from clinical.extract.schema import Extract
from clinical.modalities import Modality, Statistics
from clinical.modalities.shards import (
    ScratchJob,
    cut_to_scratch,
    fit_modalities,
    modalities_of,
    write_from_scratch,
)
from clinical.preparation.adoption import adopted, given_statistics, told_apart
from clinical.preparation.assembly import (
    Assembly,
    check_visible,
    jobs_to_cut,
    populate,
    settings_of,
    shard_name,
)
from clinical.processes import over_jobs
from clinical.relations.embedded import check_pretrains
from clinical.relations.linking import Population, check_tables, fit_relations, relations_of

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def prepare(config: RunConfig, folder: Path) -> Store:
    """The store of a training run, made or used again; `identifiers.json` lies beside it.

    Args:
        config: Extract, tasks, modalities, relations, seed and splits are what counts.
        folder: Where the store belongs; one of other data or settings is replaced.

    Raises:
        ConfigError: A relation cannot work with the modalities or without pretraining, a label
            folder or the tuning split is missing, or `folder` holds something else.
        BundleError: The bundle to begin from is none, or damaged.
        SchemaError: The extract, its samples, labels or splits are not usable, or it has what
            looks like identifiers of people and the configuration does not acknowledge them.
    """
    folder = Path(folder)
    relations = relations_of(config)
    for relation in relations.values():
        relation.check(config.modalities)
    check_pretrains(config)
    extract = Extract.open(config.extract)
    check_tables(extract, relations)
    given = given_statistics(config)
    identity = Identity.of(config, extract, {**settings_of(config), **told_apart(given)})
    if (store := identity.find(folder)) is not None:
        guard_preparation(extract, folder, acknowledged=config.acknowledge_identifiers)
        logger.info("%s: already prepared", folder)
        return store
    extract.check_subjects_apart()
    cohort = training_cohort(extract, config)
    answers = learn_answers(config, cohort)
    cohort = numbered(cohort, answers)
    with draft_of(folder) as draft:
        guard_preparation(extract, draft, acknowledged=config.acknowledge_identifiers)
        shards = [
            ScratchJob(job, draft / shard_name(number))
            for number, job in enumerate(jobs_to_cut(extract, config, cohort))
        ]
        workers = config.trainer.workers
        for _ in over_jobs(cut_to_scratch, shards, workers=workers):
            pass
        statistics = fit_modalities(config, shards, _train_rows(cohort), codes=extract.codes())
        statistics = adopted(config, statistics, given)
        jobs = [(shard, statistics) for shard in shards]
        counts = sum_counts(over_jobs(write_from_scratch, jobs, workers=workers))
        salt = hashlib.blake2b(identity.made_from.encode(), digest_size=16).hexdigest()
        folders = [shard.folder for shard in shards]
        population = populate(config, extract, cohort, statistics, folders, salt)
        check_visible(len(population.seen), cohort.height)
        fitted, reference = _fit_reference(config, population, statistics, answers)
        parts = Assembly(config, population, fitted, reference, identity, counts, "train")
        parts.write(draft, context=None, where=None)
    return Store.open(folder)


def _train_rows(cohort: pl.DataFrame) -> list[NDArray[np.int64]]:
    """The train samples of each shard, as rows of it."""
    parts = [rows["split"] for _, rows in cohort.group_by("shard", maintain_order=True)]
    return [np.flatnonzero((split == "train").fill_null(False).to_numpy()) for split in parts]


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
        described=described(population.extract, _entries(modalities, statistics)),
    )
    return fitted, rows


def _entries(
    modalities: Mapping[str, Modality], statistics: Mapping[str, Statistics]
) -> frozenset[str]:
    """All codes of the vocabularies."""
    named = (modality.entries(statistics[name]) for name, modality in modalities.items())
    return frozenset(code for codes in named for code in codes if code is not None)
