"""Who is related to whom in a store: fits the relations on train and fills the edge tables."""

from clinical.cohort.columns import Array, open_columns, write_blocks
from clinical.cohort.fitted import Fitted, sample_hashes, subject_hashes
from clinical.cohort.given import known_edges
from clinical.cohort.store import Store
from clinical.config import RunConfig, pick
from clinical.containers import Container
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.modalities import Reader, Statistics
from clinical.modalities.shards import CODES_FILE, CodeQuery, modalities_of
from clinical.relations import RELATIONS
from clinical.relations.keys import Edges, Given, Inputs, Keyed, Keys, Relation

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_BLOCK = 256
_LINKED = 32_768  # samples of which all edges are in memory


def relations_of(config: RunConfig) -> dict[str, Relation]:
    """Every configured relation.

    Raises:
        ConfigError: A name that cannot be one of a file, or options that a relation refuses.
    """
    made: dict[str, Relation] = {}
    for name, relation in config.graph.relations.items():
        # A bundle's configuration may come from anywhere, and edges are kept by this name.
        if Path(name).name != name:
            raise ConfigError(
                f"graph.relations.{name}: cannot name a file; choose another without a slash"
            )
        entry = RELATIONS[relation.kind or name]
        made[name] = entry(**pick(relation.options, entry))
    return made


def queries_of(relations: Mapping[str, Relation]) -> dict[str, CodeQuery]:
    """The raw codes that relations ask for."""
    return {name: CodeQuery(r.codes, r.window_hours) for name, r in relations.items()}


@dataclass(frozen=True)
class Population:
    """The samples of a store, as relations see them.

    Attributes:
        extract: Where they come from.
        samples: `subject_id, prediction_time, reason`, one row a sample of the store.
        readers: Their stored modalities.
        statistics: Modality -> what it learned from train.
        shards: The folders of the shards.
        salt: Of the hashes of their subjects.
        embedding: [N, D] what a pretrained network makes of them; None before there is one.
    """

    extract: Extract
    samples: pl.DataFrame
    readers: Mapping[str, Reader]
    statistics: Mapping[str, Statistics]
    shards: Sequence[Path]
    salt: str
    embedding: NDArray[np.float64] | None = None

    @classmethod
    def of_store(cls, config: RunConfig, store: Store, extract: Extract) -> Self:
        """Those of a store that was prepared of an extract."""
        statistics = store.fitted.statistics
        readers = {
            name: modality.open(store.shards, statistics[name])
            for name, modality in modalities_of(config).items()
        }
        salt = store.fitted.salt
        return cls(extract, store.samples, readers, statistics, store.shards, salt)

    @cached_property
    def subject(self) -> NDArray[np.int64]:
        """[N] hash of the subject."""
        subjects = self.samples["subject_id"].to_numpy()
        return subject_hashes(subjects, self.extract.dataset_name, self.salt)

    @cached_property
    def prediction_time(self) -> NDArray[np.int64]:
        """[N] microseconds."""
        return self.samples["prediction_time"].dt.epoch("us").to_numpy()

    @cached_property
    def sample(self) -> NDArray[np.int64]:
        """[N] hash of subject and prediction time."""
        return sample_hashes(self.subject, self.prediction_time, self.salt)

    @property
    def seen(self) -> NDArray[np.int64]:
        """Rows of the samples with something visible."""
        return np.flatnonzero(self.samples["reason"].is_null().to_numpy())

    def inputs(self, relation: str, rows: Array) -> Inputs:
        """What the keys of some samples are computed from."""

        def blocks(names: Sequence[str]) -> Iterator[Mapping[str, Container]]:
            for start in range(0, len(rows), _BLOCK):
                part = rows[start : start + _BLOCK]
                yield {name: self.readers[name].collate(part) for name in names}

        codes = open_columns([folder / CODES_FILE for folder in self.shards])
        return Inputs(
            prediction_time=self.prediction_time[rows],
            code=codes[relation].take(rows),
            modalities=tuple(self.readers),
            blocks=blocks,
            statistics=self.statistics,
            sample=self.sample[rows],
            embedding=None if self.embedding is None else self.embedding[rows],
        )

    def keyed(self, name: str, relation: Relation, parameters: Keys, rows: Array) -> Keyed:
        """Some samples with their keys; `row` counts them from 0."""
        keys = relation.keys(self.inputs(name, rows), parameters)
        return Keyed(keys, self.subject[rows], np.arange(len(rows)))

    def given(self, relation: str) -> Given | None:
        """The user's edges into all samples, None where the extract has no table of them."""
        table, where = self.extract.edges(relation), f"edges/{relation}.parquet"
        if table is None:
            logger.warning(
                "%s: the extract has none, so that nobody has a neighbour by graph.relations.%s",
                where,
                relation,
            )
            return None
        sample = pl.int_range(pl.len(), dtype=pl.Int64).alias("sample")
        known = known_edges(table, self.samples.select(sample, "subject_id", "prediction_time"))
        subjects = known["other_subject_id"].to_numpy()
        subject = subject_hashes(subjects, self.extract.dataset_name, self.salt)
        time = known["other_prediction_time"].dt.epoch("us")
        other = np.zeros(len(known), dtype=np.int64)
        named = time.is_not_null().to_numpy()
        other[named] = sample_hashes(subject[named], time.drop_nulls().to_numpy(), self.salt)
        weight = known["weight"].to_numpy()
        return Given(where, known["sample"].to_numpy(), subject, other, weight)


@dataclass(frozen=True)
class Contemporaries:
    """Unlabelled samples beside the reference, whose keys are computed once.

    Attributes:
        population: The samples.
    """

    population: Population
    _keyed: dict[str, Keyed] = field(default_factory=dict, repr=False, compare=False)

    def keyed(self, name: str, relation: Relation, asking: Extract, fitted: Fitted) -> Keyed:
        """Those whom samples of the extract `asking` may meet by a relation in time.

        Their rows come after those of the references, of whom none is repeated.
        """
        there = self.population.extract
        if there.dataset_name != asking.dataset_name or not there.consistent_calendar:
            logger.warning(
                "graph.relations.%s: no edges from the context, since it is another dataset "
                "(dataset_name) or has no consistent calendar",
                name,
            )
            return Keyed({}, np.empty(0, np.int64), np.empty(0, np.int64))
        if name not in self._keyed:
            seen = self.population.seen
            new = seen[~np.isin(self.population.sample[seen], fitted.reference_sample)]
            found = self.population.keyed(name, relation, fitted.parameters[name], new)
            self._keyed[name] = replace(found, row=len(fitted.reference_subject) + new)
        return self._keyed[name]


def fit_relations(
    config: RunConfig,
    relations: Mapping[str, Relation],
    population: Population,
    reference: Array,
) -> tuple[dict[str, Keys], dict[str, Keys]]:
    """Parameters of each relation, learned from the reference rows, and their keys."""
    parameters: dict[str, Keys] = {}
    keys: dict[str, Keys] = {}
    for name, relation in relations.items():
        # Times that nothing may be compared with have no place in a bundle.
        has_no_times = relation.in_time and not population.extract.consistent_calendar
        if has_no_times or (relation.by_embedding and population.embedding is None):
            parameters[name], keys[name] = {}, {}
            continue
        n_fit = len(reference) if relation.fits_on is None else relation.fits_on
        n_fit = min(len(reference), n_fit)
        some = reference[np.linspace(0, len(reference) - 1, n_fit).astype(np.int64)]
        parameters[name] = relation.fit(population.inputs(name, some))
        keyed = population.keyed(name, relation, parameters[name], reference)
        k = config.graph.relations[name].k
        parameters[name] = {**parameters[name], **relation.index(keyed, parameters[name], k=k)}
        keys[name] = keyed.keys
    return parameters, keys


def check_tables(extract: Extract, relations: Mapping[str, Relation]) -> None:
    """Refuse to learn from edges that are not there, or break their schema.

    Raises:
        SchemaError: With the file, what is wrong and what to do.
    """
    for name, relation in relations.items():
        if relation.from_table and extract.edges(name) is None:
            raise SchemaError(
                f"edges/{name}.parquet: there is none; write one (subject_id, other_subject_id), "
                f"or take graph.relations.{name} out"
            )


def check_fitted(config: RunConfig, fitted: Fitted) -> None:
    """Refuse what a relation could not have learned (ValueError, KeyError).

    What was read from a bundle may come from anywhere.
    """
    n_reference = len(fitted.reference_subject)
    if len(fitted.reference_sample) != n_reference:
        raise ValueError("there are as many hashes of samples as of subjects in a bundle")
    for name, relation in relations_of(config).items():
        if relation.in_time and not fitted.consistent_calendar:
            continue
        relation.check_fitted(
            fitted.parameters[name],
            fitted.reference[name],
            n_reference=n_reference,
            sizes=fitted.modality_sizes,
        )


def link(
    config: RunConfig,
    relations: Mapping[str, Relation],
    population: Population,
    fitted: Fitted,
    *,
    context: Contemporaries | None,
    folder: Path,
) -> dict[str, int]:
    """Write the edges of every sample, a table for each relation.

    Samples are linked block by block, so that no more than one block of edges is in memory.

    Args:
        config: How many neighbours each relation has.
        relations: By name.
        population: Who gets neighbours.
        fitted: The reference.
        context: Unlabelled contemporaries, rows N_ref + i; for relations in time only.
        folder: Of the tables.

    Returns:
        Relation -> samples that have a neighbour.
    """
    linked = dict.fromkeys(relations, 0)

    def counted(name: str, relation: Relation) -> Iterator[Mapping[str, Array]]:
        for edges in _linked(config, name, relation, population, fitted, context):
            linked[name] += int((edges.rows >= 0).any(1).sum())
            yield edges.columns

    for name, relation in relations.items():
        write_blocks(folder / f"{name}.arrow", counted(name, relation))
    return linked


def _linked(
    config: RunConfig,
    name: str,
    relation: Relation,
    population: Population,
    fitted: Fitted,
    context: Contemporaries | None,
) -> Iterator[Edges]:
    """The edges of one block of samples after the other."""
    k, n_samples = config.graph.relations[name].k, len(population.samples)
    starts = range(0, max(n_samples, 1), _LINKED)
    blocks = [np.arange(start, min(start + _LINKED, n_samples)) for start in starts]
    if relation.in_time and not population.extract.consistent_calendar:
        logger.warning(
            "graph.relations.%s: no edges, since the extract's dataset.json does not say "
            "consistent_calendar: true and times of different subjects cannot be compared",
            name,
        )
        yield from (Edges.none(len(rows), k) for rows in blocks)
        return
    if relation.by_embedding and population.embedding is None:
        yield from (Edges.none(len(rows), k) for rows in blocks)
        return
    parameters = fitted.parameters[name]
    given = population.given(name) if relation.from_table else None
    reference = _reference(name, relation, population, fitted)
    if relation.in_time and context is not None:
        reference = reference.joined(context.keyed(name, relation, population.extract, fitted))
    for rows in blocks:
        samples = population.keyed(name, relation, parameters, rows)
        samples = replace(samples, row=rows, given=given and given.take(rows))
        yield relation.neighbours(samples, reference, parameters, k=k)


def _reference(name: str, relation: Relation, population: Population, fitted: Fitted) -> Keyed:
    rows = np.arange(len(fitted.reference_subject))
    same = fitted.dataset_name == population.extract.dataset_name and fitted.consistent_calendar
    if relation.in_time and not same:
        return Keyed({}, np.empty(0, np.int64), np.empty(0, np.int64))
    return Keyed(fitted.reference[name], fitted.reference_subject, rows)
