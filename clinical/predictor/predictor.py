"""Scoring patients with a finished model."""

from clinical.bundle import Bundle
from clinical.calibration import sigmoid
from clinical.cohort.samples import aligned_samples
from clinical.cohort.store import Store
from clinical.errors import ConfigError
from clinical.links import Linker, learns_links
from clinical.predictor.embedding import check_aspect, embeddings
from clinical.predictor.panel import GRAPH, NOTHING, Opinions, Panel
from clinical.preparation import prepare_for_scoring
from clinical.relations.embedded import Embed, by_embedding
from clinical.training.keys import key_embedding

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl


class Predictor:
    """A bundle ready to score.

    A sample's score depends on the sample, the bundle and the context alone: not on who else
    is scored, nor in which order.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.panel = Panel(bundle)

    @classmethod
    def load(cls, folder: str | Path) -> "Predictor":
        """Open a finished bundle.

        Raises:
            BundleError: it is missing, unfinished, changed or of another version.
        """
        return cls(Bundle.read(Path(folder)))

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks it scores."""
        return list(self.bundle.config.tasks)

    def score(
        self,
        extract: str | Path,
        *,
        samples: pd.DataFrame | None = None,
        context: str | Path | None = None,
        work: str | Path | None = None,
        without: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Score the samples of an extract; neither splits nor labels are needed.

        Args:
            extract: a MEDS folder.
            samples: subject_id and prediction_time to score for; by default the extract's own
                samples.parquet.
            context: an extract whose samples may serve as unlabelled contemporaries of those
                scored, in relations in time; often the extract itself.
            work: folder for the prepared store; by default a temporary one.
            without: modalities and relations to leave out as if never recorded, and "graph"
                for every relation. A relation whose neighbours are chosen by a modality goes
                with it.

        Returns:
            One row a sample and task, in the order of `samples` where given: subject_id,
            prediction_time, task, class, horizon_hours, score (a probability, calibrated as the
            model card says), reason (where there is no score), modalities.

        Raises:
            SchemaError: the extract breaks its schema, or nothing in it is visible.
            ConfigError: `without` names something that the model does not have.
        """
        left_out = self.panel.left_out_with(without)
        with self.prepared(extract, samples=samples, context=context, work=work) as (store, rows):
            return self.score_store(store, rows, without=left_out)

    def leave_out(
        self,
        extract: str | Path,
        parts: Sequence[str] | None = None,
        *,
        samples: pd.DataFrame | None = None,
        context: str | Path | None = None,
        work: str | Path | None = None,
    ) -> pd.DataFrame:
        """Score with nothing left out and with each part left out by itself.

        The same as calling `score` for each, but every sample is prepared and encoded once.

        Args:
            extract, samples, context, work: as for `score`.
            parts: modalities, relations or "graph"; by default every modality, and the graph
                where there is one.

        Returns:
            The columns of `score` behind `left_out`, which is null where nothing is.

        Raises:
            SchemaError, ConfigError: as for `score`.
        """
        if parts is None:
            graph = [GRAPH] if self.bundle.config.graph.relations else []
            parts = [*self.bundle.config.modalities, *graph]
        left_out = [NOTHING, *(self.panel.left_out_with([part]) for part in parts)]
        with self.prepared(extract, samples=samples, context=context, work=work) as (store, rows):
            frames = self._score_each(store, rows, left_out)
        for part, frame in zip([None, *parts], frames, strict=True):
            frame.insert(0, "left_out", pd.Series([part] * len(frame), dtype="string"))
        return pd.concat(frames, ignore_index=True)

    def embed(
        self,
        extract: str | Path,
        *,
        aspect: str | None = None,
        samples: pd.DataFrame | None = None,
        context: str | Path | None = None,
        work: str | Path | None = None,
    ) -> pd.DataFrame:
        """One representation a patient, for what is asked: a task, a relation or nothing.

        Of an ensemble it is the first network's: networks have spaces of their own, in which
        distances and directions cannot be compared, so that no mean of them means anything.

        Args:
            extract, samples, context, work: as for `score`.
            aspect: name of a task or of a relation; by default the summary of the patient's own
                data, before anybody else is looked at.

        Returns:
            One row a sample, in the order of `samples` where given: subject_id, prediction_time,
            dim_0 ... (float32), and reason where nothing is visible and every dim_ is NaN.

        Raises:
            SchemaError: as for `score`.
            ConfigError: the model has no such task or relation.
        """
        check_aspect(self.panel, aspect)
        with self.prepared(extract, samples=samples, context=context, work=work) as (store, rows):
            of = store.samples[rows]
            vectors = embeddings(self.panel, store, rows=rows, aspect=aspect)
        vectors[of["reason"].is_not_null().to_numpy()] = np.nan
        dims = pd.DataFrame(vectors, columns=[f"dim_{i}" for i in range(vectors.shape[1])])
        dims.insert(0, "subject_id", of["subject_id"].to_numpy())
        dims.insert(1, "prediction_time", of["prediction_time"].to_numpy())
        dims["reason"] = pd.Series(of["reason"].to_list(), dtype="string")
        return dims

    def link(
        self,
        extract: str | Path,
        *,
        relation: str | None = None,
        top: int | None = 10,
        samples: pd.DataFrame | None = None,
        context: str | Path | None = None,
        work: str | Path | None = None,
    ) -> pd.DataFrame:
        """Rank the codes that each sample likely has and does not show: missed diagnoses, drugs.

        Asked are the networks as pretraining left them, which hid codes and predicted them.

        Args:
            extract, samples, context, work: as for `score`.
            relation: the kind of edge; by default the one there is.
            top: codes a sample; None for every candidate. Candidates are codes of at least 3
                train subjects that are not visible, nor an ancestor or a special case of one that
                is.

        Returns:
            subject_id, prediction_time, code, score, rank (from 1), train_subjects (who have the
            code). The score is a probability, not calibrated any further: that a patient of whom
            the rest is known has the code, not that it was forgotten. A sample of which nothing
            is visible has no rows.

        Raises:
            ConfigError: the model has not learned such links.
            SchemaError: as for `score`.
        """
        if top is not None and top < 1:
            raise ConfigError(f"top: {top} codes a sample should be at least 1")
        config, fitted = self.bundle.config, self.bundle.fitted
        networks = self.bundle.pretrained_networks() if learns_links(config) else ()
        linker = Linker.of(config, fitted, [each.model for each in networks], relation=relation)
        pretrained = Panel(replace(self.bundle, networks=networks, experts={}, stack={}))
        with self.prepared(extract, samples=samples, context=context, work=work) as (store, rows):
            memories = [memory for (memory,) in pretrained.memories(store)]
            return linker.rank(store, rows, top=top, memories=memories)

    @contextmanager
    def prepared(
        self,
        extract: str | Path,
        *,
        samples: pd.DataFrame | None = None,
        context: str | Path | None = None,
        work: str | Path | None = None,
    ) -> Iterator[tuple[Store, np.ndarray]]:
        """What `score` scores: a store that lasts as long as the block, and rows of it.

        Args:
            extract, samples, context, work: as for `score`.

        Returns:
            The store, and the rows [N] asked for, in that order.

        Raises:
            SchemaError: as for `score`.
        """
        with tempfile.TemporaryDirectory() as temporary:
            store = prepare_for_scoring(
                self.bundle.config,
                self.bundle.fitted,
                Path(extract),
                Path(work) if work is not None else Path(temporary) / "store",
                samples=None if samples is None else pl.from_pandas(samples),
                context=None if context is None else Path(context),
                embed=self._embed,
            )
            yield store, _asked(store, samples)

    @cached_property
    def _embed(self) -> Embed | None:
        """What chooses neighbours by embedding: the first network, as pretraining left it."""
        config = self.bundle.config
        if not by_embedding(config):
            return None
        return partial(key_embedding, config, model=self.bundle.pretrained_networks()[0].model)

    def score_store(
        self, store: Store, rows: np.ndarray, *, without: frozenset[str] = NOTHING
    ) -> pd.DataFrame:
        """Score rows of a prepared store; see `score` for the columns."""
        return self._score_each(store, rows, [without])[0]

    def opinions(self, store: Store, rows: np.ndarray) -> dict[str, Opinions]:
        """Uncalibrated logits of each network and expert, for rows of a prepared store, by task."""
        return self.panel.opinions(store, rows)[0]

    def logits(self, opinions: Mapping[str, Opinions]) -> dict[str, np.ndarray]:
        """Uncalibrated scores, networks and experts together: task -> [N] float64."""
        return self.panel.logits(opinions)

    def probability(self, task: str, logits: np.ndarray) -> np.ndarray:
        """Scores of uncalibrated logits [N] of a task, calibrated as the model card says."""
        calibration = self.bundle.calibration.get(task)
        if calibration is not None:
            return calibration.apply(logits)
        return sigmoid(logits)

    def _score_each(
        self, store: Store, rows: np.ndarray, left_out: Sequence[frozenset[str]]
    ) -> list[pd.DataFrame]:
        each = [self.logits(opinions) for opinions in self.panel.opinions(store, rows, left_out)]
        return [
            pd.concat(
                [self._frame(store, rows, task, logits[task]) for task in self.tasks],
                ignore_index=True,
            )
            for logits in each
        ]

    def _frame(self, store: Store, rows: np.ndarray, task: str, logits: np.ndarray) -> pd.DataFrame:
        samples = store.samples[rows]
        score = self.probability(task, logits)
        score[samples["reason"].is_not_null().to_numpy()] = np.nan
        frame = pd.DataFrame(
            {
                "subject_id": samples["subject_id"].to_numpy(),
                "prediction_time": samples["prediction_time"].to_numpy(),
                "task": task,
                # A text even where all are null, or files of predictions could not be joined.
                "class": pd.Series([None] * len(rows), dtype="string"),
                "horizon_hours": np.nan,
                "score": score,
                "reason": pd.Series(samples["reason"].to_list(), dtype="string"),
                "modalities": _modalities(samples, list(self.bundle.config.modalities)),
            }
        )
        label = f"label.{task}"
        if label in samples.columns:
            frame.insert(6, "label", samples[label].to_numpy().astype(np.float64))
        return frame


def _asked(store: Store, samples: pd.DataFrame | None) -> np.ndarray:
    """Rows of the store, in the order in which they were asked for."""
    if samples is None:
        return np.arange(store.n_samples)
    asked = aligned_samples(pl.from_pandas(samples)).with_row_index("asked")
    keys = ["subject_id", "prediction_time"]
    stored = store.samples.select(keys).with_row_index("row")
    return asked.join(stored, on=keys, how="left").sort("asked")["row"].to_numpy()


def _modalities(samples: pl.DataFrame, names: list[str]) -> list[str]:
    """The modalities present, joined by "+", for each sample."""
    present = samples.select(f"present.{name}" for name in names).to_numpy()
    return ["+".join(n for n, has in zip(names, row, strict=True) if has) for row in present]
