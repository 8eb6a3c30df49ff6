"""What preparing to train and preparing to score put together alike: shards, samples, the store."""

from clinical.cohort.columns import write_table
from clinical.cohort.counts import NOTHING_VISIBLE, describe, sum_counts
from clinical.cohort.fingerprint import Identity
from clinical.cohort.fitted import Fitted
from clinical.cohort.store import FITTED, FORMAT_VERSION, REFERENCE, SAMPLES, write_manifest
from clinical.cohort.tasks import TASK_BUILDERS
from clinical.config import RunConfig, pick
from clinical.errors import SchemaError
from clinical.extract.schema import Extract
from clinical.modalities import MODALITIES, Counts, Statistics
from clinical.modalities.shards import ShardJob, cut_and_write, jobs_of, modalities_of
from clinical.processes import over_jobs
from clinical.relations import RELATIONS
from clinical.relations.linking import Contemporaries, Population, link, queries_of, relations_of

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class Assembly:
    """All that a finished store holds beside the arrays of its shards.

    `shared_fitted` is where what was learned from train lies already, relative to the store.
    """

    config: RunConfig
    population: Population
    fitted: Fitted
    reference: NDArray[np.int64]
    identity: Identity
    counts: dict[str, Counts]
    fitted_on: str
    shared_fitted: str | None = None

    def write(self, folder: Path, *, context: Contemporaries | None, where: str | None) -> None:
        """Write them; `store.json`, which makes the store complete, comes last."""
        samples = self.population.samples
        samples.write_ipc(folder / SAMPLES)
        write_table(folder / REFERENCE, {"row": self.reference})
        if self.shared_fitted is None:
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
            "fitted": self.shared_fitted or FITTED,
            "counts": {
                **describe(self.config, answers, samples),
                "neighbours": linked,
                **self.counts,
            },
        }
        write_manifest(folder, manifest)


def cut_and_populate(
    config: RunConfig,
    fitted: Fitted,
    extract: Extract,
    cohort: pl.DataFrame,
    folder: Path,
    *,
    is_part: bool = False,
) -> tuple[Population, dict[str, Counts]]:
    """Cut and write all shards of an extract with statistics learned elsewhere.

    Where the cohort is part of a larger one, no more is read of a shard than its subjects' events.
    """
    jobs = [
        (replace(job, is_part=is_part), folder / shard_name(number), fitted.statistics)
        for number, job in enumerate(jobs_to_cut(extract, config, cohort))
    ]
    counts = sum_counts(over_jobs(cut_and_write, jobs, workers=config.trainer.workers))
    folders = [shard for _, shard, _ in jobs]
    population = populate(config, extract, cohort, fitted.statistics, folders, fitted.salt)
    return population, counts


def jobs_to_cut(extract: Extract, config: RunConfig, cohort: pl.DataFrame) -> list[ShardJob]:
    """One job for each shard that has samples."""
    return jobs_of(extract, config, cohort, queries_of(relations_of(config)))


def shard_name(number: int) -> str:
    """Of the folder of a shard's arrays."""
    return f"shard-{number:05d}"


def populate(
    config: RunConfig,
    extract: Extract,
    cohort: pl.DataFrame,
    statistics: Mapping[str, Statistics],
    shards: Sequence[Path],
    salt: str,
) -> Population:
    """Open the written shards and say who has what."""
    readers = {
        name: modality.open(shards, statistics[name])
        for name, modality in modalities_of(config).items()
    }
    columns = {f"present.{name}": reader.present for name, reader in readers.items()}
    anything = np.any(list(columns.values()), axis=0)
    reason = pl.when(~pl.Series(anything)).then(pl.lit(NOTHING_VISIBLE)).alias("reason")
    samples = cohort.drop("shard").with_columns(
        *(pl.Series(name, present) for name, present in columns.items()), reason
    )
    return Population(extract, samples, readers, statistics, shards, salt)


def check_visible(n_seen: int, n_samples: int) -> None:
    """Refuse a cohort of which nothing can be learned or scored.

    Raises:
        SchemaError: Nothing of any sample is visible.
    """
    if not n_seen:
        raise SchemaError(
            f"data: nothing is visible of any of the {n_samples} samples; check prediction "
            "times, window_hours and the modalities"
        )


def settings_of(config: RunConfig) -> dict[str, Any]:
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
