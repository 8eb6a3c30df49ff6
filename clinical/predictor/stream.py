"""An extract scored one portion of its samples after the other, in memory that does not grow."""

from clinical.cohort.store import CONTEXT, Store
from clinical.errors import SchemaError
from clinical.predictor.panel import Memories
from clinical.predictor.predictor import Predictor
from clinical.predictor.watching import Watch
from clinical.preparation import ToScore
from clinical.recognition import Recognised, recognised
from clinical.relations.linking import Contemporaries
from clinical.typicality import Tally, Typicality

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

PORTION = 1024
"""Samples of a portion at most: enough that what each costs besides is nothing beside them."""

Beside = Callable[[pd.DataFrame, Store, NDArray[np.int64], Memories], pd.DataFrame]
"""(predictions, store, rows [N] of it, memories with nothing left out) -> predictions."""


@dataclass(frozen=True)
class Portion:
    """What is known of some samples after they were scored.

    Attributes:
        predictions: the columns of `Predictor.score`.
        seen: samples of whom anything is visible.
        recognised: how much of them the model knew, by modality; empty where that was said of
            another portion too.
        tally: of the patients, for the drift of all portions together.
    """

    predictions: pd.DataFrame
    seen: int
    recognised: Sequence[Recognised]
    tally: Tally


@dataclass(frozen=True)
class Stream:
    """The portions of an extract, each a function of the extract, the bundle and the context.

    A portion is cut, prepared and scored by itself, in a store that the next one replaces. Where
    the samples are their own contemporaries all of them have to be known before the first is
    scored: then there is one store, and portions are its rows.

    Attributes:
        predictor: who scores.
        to_score: whom.
        work: an existing folder for stores. What a killed process left there is used again, so it
            must be of the same bundle, extract and context.
        coverage: of sets and intervals.
        at_once: batches that are asked about beside each other.
        beside: puts further columns beside the predictions of some rows of a store.
    """

    predictor: Predictor
    to_score: ToScore
    work: Path
    coverage: float
    at_once: int = 1
    beside: Beside | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def sizes(self) -> list[int]:
        """Samples of each portion."""
        if not self.to_score.is_own_context:
            return [piece.height for piece in self._pieces]
        n = self.to_score.cohort.height
        return [min(PORTION, n - start) for start in range(0, n, PORTION)]

    def score(self, number: int) -> Portion:
        """Score one portion.

        Raises:
            SchemaError: an event file breaks its schema.
        """
        if self.to_score.is_own_context:
            start = number * PORTION
            rows = np.arange(start, start + self.sizes[number])
            counted = self._all_recognised if number == 0 else []
            return self._scored(self._whole, rows, counted)
        folder = self.work / "portion"
        shutil.rmtree(folder, ignore_errors=True)  # half removed, after a kill
        store = self.to_score.portion(
            self._pieces[number], folder, around=self._around, embed=self.predictor.embed_keys
        )
        known = recognised(self.predictor.bundle.config, store)
        portion = self._scored(store, np.arange(store.n_samples), known)
        shutil.rmtree(folder)
        return portion

    @cached_property
    def _pieces(self) -> list[pl.DataFrame]:
        return self.to_score.portions(PORTION)

    @cached_property
    def _whole(self) -> Store:
        """Of all samples, where they are their own contemporaries."""
        folder = self.work / "store"
        try:
            return Store.open(folder)  # it is complete or not there
        except SchemaError:
            return self.to_score.whole(folder, self.predictor.embed_keys)

    @property
    def _all_recognised(self) -> list[Recognised]:
        return recognised(self.predictor.bundle.config, self._whole)

    @cached_property
    def _around(self) -> Contemporaries | None:
        self.to_score.write_shared(self.work)
        if self.to_score.context is None:
            return None
        return self.to_score.contemporaries(self.work / CONTEXT)

    @cached_property
    def _memories(self) -> Memories:
        """The same for every portion."""
        if self.to_score.is_own_context:
            around: Store | None = self._whole
        elif self.to_score.context is not None:
            around = Store.open(self.work / CONTEXT)
        else:
            around = None
        return self.predictor.panel.memories_with(around, at_once=self.at_once)

    @cached_property
    def _shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Subjects, ascending, and what each of their samples counts in the tally."""
        subjects, samples = np.unique(self.to_score.cohort["subject_id"], return_counts=True)
        return subjects, 1 / samples

    def _scored(self, store: Store, rows: np.ndarray, known: Sequence[Recognised]) -> Portion:
        subjects, shares = self._shares  # of all portions: a person's samples may be in several
        weight = shares[np.searchsorted(subjects, store.samples["subject_id"].to_numpy())]
        watch = Watch.of(self.typicality, store, weight)
        predictions = self.predictor.score_store(
            store,
            rows,
            coverage=self.coverage,
            memories=self._memories,
            at_once=self.at_once,
            watch=watch,
        )
        if self.beside is not None:
            predictions = self.beside(predictions, store, rows, self._memories)
        seen = int(store.samples[rows]["reason"].is_null().sum())
        return Portion(predictions, seen, known, watch.tally)

    @property
    def typicality(self) -> Typicality:
        """Of the bundle; only drafts have none."""
        known = self.predictor.bundle.typicality
        assert known is not None, "a draft scores no extract"
        return known
