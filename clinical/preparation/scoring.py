"""From an extract to the stores that a finished model scores: all of it at once, or in portions."""

from clinical.cohort.fingerprint import Identity
from clinical.cohort.fitted import Fitted
from clinical.cohort.labels import numbered
from clinical.cohort.samples import scoring_cohort
from clinical.cohort.store import CONTEXT, FITTED, OWN_CONTEXT, Store, draft_of
from clinical.config import RunConfig
from clinical.extract.schema import Extract
from clinical.modalities import Counts
from clinical.preparation.assembly import (
    Assembly,
    check_visible,
    cut_and_populate,
    settings_of,
)
from clinical.relations.embedded import Embed, add_edges, by_embedding
from clinical.relations.linking import Contemporaries, Population, relations_of

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

NOBODY = np.empty(0, dtype=np.int64)
"""The reference of a store to score: it is in the bundle."""


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
    return ToScore.open(config, fitted, extract, samples=samples, context=context).whole(
        folder, embed
    )


@dataclass(frozen=True)
class ToScore:
    """The samples of an extract that a model is asked about, and what is known of all of them.

    Attributes:
        config: Of the run that trained the model.
        fitted: What that run learned from train.
        extract: Where the samples come from.
        cohort: The columns of `scoring_cohort`, by shard, subject and time: all of an extract that
            is ever in memory at once.
        context: Where contemporaries for relations in time come from; None without such relations.
        is_own_context: The contemporaries are the samples themselves.
    """

    config: RunConfig
    fitted: Fitted
    extract: Extract
    cohort: pl.DataFrame
    context: Extract | None
    is_own_context: bool

    @classmethod
    def open(
        cls,
        config: RunConfig,
        fitted: Fitted,
        extract: Path,
        *,
        samples: pl.DataFrame | None = None,
        context: Path | None = None,
    ) -> "ToScore":
        """Find the samples; the arguments and errors are those of `prepare_for_scoring`."""
        scored = Extract.open(extract)
        scored.check_subjects_apart()
        cohort = scoring_cohort(scored, config, samples=samples)
        looks_around = any(relation.in_time for relation in relations_of(config).values())
        there = Extract.open(context) if context is not None and looks_around else None
        return cls(
            config,
            fitted,
            scored,
            numbered(cohort, fitted.answers(config)),
            there,
            # Samples chosen by the caller must not change who the contemporaries are.
            is_own_context=there is not None and there.path == scored.path and samples is None,
        )

    @cached_property
    def identity(self) -> Identity:
        """What a store of these samples is made from."""
        return Identity.of(self.config, self.extract, settings_of(self.config))

    def whole(self, folder: Path, embed: Embed | None = None) -> Store:
        """The store of all samples, with that of another extract's contemporaries inside.

        Raises:
            ConfigError: `folder` holds something else than a store.
            SchemaError: An event file breaks its schema, or nothing is visible of any sample.
        """
        folder = Path(folder)
        with draft_of(folder) as draft:
            population, counts = self._cut(self.cohort, draft)
            check_visible(len(population.seen), self.cohort.height)
            around, where = None, None
            if self.is_own_context:
                around, where = Contemporaries(population), OWN_CONTEXT
            elif self.context is not None:
                self._write_context(self.context, draft / CONTEXT)
                around, where = self.contemporaries(draft / CONTEXT), CONTEXT
            parts = self._assembly(population, counts)
            parts.write(draft, context=around, where=where)
            self._add_embedded(draft, population, embed)
        return Store.open(folder)

    def portions(self, size: int) -> list[pl.DataFrame]:
        """The cohort in pieces of up to `size` samples, none of which spans two shards."""
        pieces = []
        for _, rows in self.cohort.group_by("shard", maintain_order=True):
            pieces += [rows[start : start + size] for start in range(0, rows.height, size)]
        return pieces

    def write_shared(self, folder: Path) -> None:
        """Leave in `folder`, once, what every portion's store reads.

        Raises:
            SchemaError: The context is not usable.
        """
        if not (folder / FITTED).exists():
            draft = folder / f".{FITTED}.draft"
            draft.mkdir(exist_ok=True)
            self.fitted.write(draft)
            draft.rename(folder / FITTED)
        if self.context is not None and not (folder / CONTEXT).exists():
            with draft_of(folder / CONTEXT) as draft:
                self._write_context(self.context, draft)

    def portion(
        self,
        piece: pl.DataFrame,
        folder: Path,
        *,
        around: Contemporaries | None = None,
        embed: Embed | None = None,
    ) -> Store:
        """The store of one portion, in a folder beside what `write_shared` wrote.

        Nothing may be visible of any of its samples.

        Args:
            piece: One of `portions`.
            folder: Where the store belongs.
            around: Of `contemporaries`, where there is a context.
            embed: As for `prepare_for_scoring`.
        """
        with draft_of(folder) as draft:
            population, counts = self._cut(piece, draft, is_part=True)
            parts = replace(self._assembly(population, counts), shared_fitted=f"../{FITTED}")
            parts.write(draft, context=around, where=None if around is None else f"../{CONTEXT}")
            self._add_embedded(draft, population, embed)
        return Store.open(folder)

    def contemporaries(self, folder: Path) -> Contemporaries:
        """Those of the store that was written for the context."""
        assert self.context is not None
        return Contemporaries(Population.of_store(self.config, Store.open(folder), self.context))

    def _cut(
        self, cohort: pl.DataFrame, draft: Path, *, is_part: bool = False
    ) -> tuple[Population, dict[str, Counts]]:
        parts = (self.config, self.fitted, self.extract, cohort, draft)
        return cut_and_populate(*parts, is_part=is_part)

    def _assembly(self, population: Population, counts: dict[str, Counts]) -> Assembly:
        return Assembly(
            self.config, population, self.fitted, NOBODY, self.identity, counts, "elsewhere"
        )

    def _add_embedded(self, draft: Path, population: Population, embed: Embed | None) -> None:
        if by_embedding(self.config):
            assert embed is not None, "edges by embedding need a network"
            population = replace(population, embedding=embed(Store.open(draft)))
            add_edges(self.config, draft, population, self.fitted)

    def _write_context(self, extract: Extract, folder: Path) -> None:
        """A store for the contemporaries, who get no neighbours of their own."""
        extract.check_subjects_apart()
        folder.mkdir(exist_ok=True)
        graph = self.config.graph.model_copy(update={"relations": {}})
        cohort = numbered(scoring_cohort(extract, self.config), self.fitted.answers(self.config))
        population, counts = cut_and_populate(self.config, self.fitted, extract, cohort, folder)
        check_visible(len(population.seen), cohort.height)
        identity = Identity.of(self.config, extract, settings_of(self.config))
        alone = self.config.model_copy(update={"graph": graph})
        parts = Assembly(alone, population, self.fitted, NOBODY, identity, counts, "elsewhere")
        parts.write(folder, context=None, where=None)
