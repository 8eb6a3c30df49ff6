"""Where the audit scores: the drawn samples in place, and in copies of what is known of them.

Everything written lies in one temporary folder, which is the caller's to remove.
"""

from clinical.cohort.samples import scoring_cohort
from clinical.cohort.store import Store
from clinical.extract.schema import Extract
from clinical.leak_audit.excerpt import KEYS, Excerpt
from clinical.leak_audit.graph import Graph
from clinical.predictor import Predictor
from clinical.relations import Relation
from clinical.relations.linking import relations_of

import itertools
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

_BYSTANDERS = 20
"""Subjects of a context to whom no edge leads, which are copied with the others."""


@dataclass(frozen=True)
class Bench:
    """What is audited, and where copies of it are written.

    Attributes:
        predictor: see `laid_bare`.
        extract: whose samples are scored.
        context: their contemporaries.
        cohort: subject_id and prediction_time of every sample of the extract.
        drawn: those of the audited samples, a subject each: so everything after a prediction time
            can be altered at once and is nobody's past.
        folder: an existing one.
        seed: of what is drawn.
    """

    predictor: Predictor
    extract: Extract
    context: Extract | None
    cohort: pl.DataFrame
    drawn: pl.DataFrame
    folder: Path
    seed: int
    _number: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def open(
        cls,
        predictor: Predictor,
        extract: Path,
        folder: Path,
        *,
        context: Path | None,
        samples: int,
        seed: int,
    ) -> "Bench":
        """Draw the samples."""
        found = Extract.open(extract)
        with quietly():
            cohort = scoring_cohort(found, predictor.bundle.config).select(KEYS).sort(KEYS)
        order = np.random.default_rng(seed).permutation(cohort.height)
        mixed = cohort[order].unique("subject_id", keep="first", maintain_order=True)
        around = None if context is None else Extract.open(context)
        bare = laid_bare(predictor)
        return cls(bare, found, around, cohort, mixed.head(samples), folder, seed)

    @cached_property
    def relations(self) -> dict[str, Relation]:
        """Of the model."""
        return relations_of(self.predictor.bundle.config)

    @cached_property
    def in_place(self) -> pd.DataFrame:
        """Predictions of the drawn samples, the extract and the context as they are."""
        return self.predictor.score(
            self.extract.path,
            samples=self.drawn.to_pandas(),
            context=None if self.context is None else self.context.path,
            work=self.folder / "in-place",
        )

    @cached_property
    def graph(self) -> Graph:
        """The edges that those predictions were made with."""
        assert self.in_place is not None
        store = Store.open(self.folder / "in-place")
        return Graph(store, self.predictor.bundle.fitted, self.relations)

    @cached_property
    def contemporaries(self) -> dict[int, set[int]]:
        """Subject of a sample -> subjects of the context that its edges lead to."""
        return self.graph.contemporaries()

    @cached_property
    def excerpt(self) -> Excerpt:
        """What the extract has of the drawn samples."""
        tasks = self.predictor.bundle.config.tasks.values()
        return Excerpt.of(
            self.extract,
            self.drawn,
            labels=dict.fromkeys(folder for task in tasks for folder in task.folders),
            edges=[name for name, relation in self.relations.items() if relation.from_table],
        )

    @cached_property
    def around(self) -> Excerpt | None:
        """What the context has of all to whom an edge leads, and of some others."""
        there = self.graph.store.context
        if self.context is None or there is None:
            return None
        subjects = there.samples["subject_id"].unique().sort()
        chosen = set(subjects.head(_BYSTANDERS)).union(*self.contemporaries.values())
        samples = there.samples.filter(pl.col("subject_id").is_in(list(chosen)))
        return Excerpt.of(self.context, samples.select(KEYS))

    @cached_property
    def copied(self) -> pd.DataFrame:
        """Predictions of an unaltered copy: what those of altered ones are compared with."""
        return self.score(self.excerpt, work=self.folder / "copied")

    def place(self, excerpt: Excerpt) -> Path:
        """Write an excerpt into a folder of its own."""
        return excerpt.write(self.folder / f"copy-{next(self._number)}")

    def score(
        self,
        excerpt: Excerpt | Path,
        *,
        around: Excerpt | None = None,
        samples: pl.DataFrame | None = None,
        predictor: Predictor | None = None,
        work: Path | None = None,
    ) -> pd.DataFrame:
        """Predictions of a copy, by the public way; what was written for it is removed.

        Args:
            excerpt: an excerpt, or the folder of one that is to stay.
            around: of the context; by default `self.around`.
            samples: whom to score; by default all of the excerpt.
            predictor: another one.
            work: where the prepared store is to stay.
        """
        around = self.around if around is None else around
        extract = self.place(excerpt) if isinstance(excerpt, Excerpt) else excerpt
        context = None if around is None else self.place(around)
        with quietly():
            found = (predictor or self.predictor).score(
                extract,
                samples=None if samples is None else samples.to_pandas(),
                context=context,
                work=work,
            )
        for folder in (extract if isinstance(excerpt, Excerpt) else None, context):
            if folder is not None:
                shutil.rmtree(folder)
        return found


def laid_bare(predictor: Predictor) -> Predictor:
    """The same model without calibration, and without worker processes for so few samples.

    A calibration can be flat, and would then hide that a score moved. Without a difference before
    it there is none behind it. Values are left in standard deviations: in a unit in which all of
    them are tiny, none would seem to move.
    """
    config = predictor.bundle.config
    trainer = config.trainer.model_copy(update={"workers": 0})
    config = config.model_copy(update={"trainer": trainer})
    answers = {task: answer.laid_bare for task, answer in predictor.bundle.answers.items()}
    return Predictor(
        replace(predictor.bundle, config=config, calibration={}, conformal={}, answers=answers)
    )


@contextmanager
def quietly() -> Iterator[None]:
    """What scoring says of an extract, it need not say again of every copy."""
    logger = logging.getLogger("clinical")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
