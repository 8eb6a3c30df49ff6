"""Scoring patients with a finished model."""

from clinical.bundle import Bundle
from clinical.cohort.samples import aligned_samples
from clinical.cohort.store import Store
from clinical.conformal import USUAL_COVERAGE, check_coverage
from clinical.errors import ConfigError
from clinical.facts_table import html_of
from clinical.links import Linker, learns_links
from clinical.prediction_table import NOT_CALIBRATED, add_sets, add_typicality, long_frame, together
from clinical.predictor.embedding import check_aspect, embeddings
from clinical.predictor.facts import facts_of
from clinical.predictor.panel import GRAPH, NOTHING, Memories, Opinions, Panel
from clinical.predictor.watching import Watch
from clinical.predictor.zero_shot import Prompts, ZeroShot
from clinical.preparation import prepare_for_scoring
from clinical.relations.embedded import Embed, by_embedding
from clinical.training.keys import key_embedding

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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

    def _repr_html_(self) -> str:
        return html_of("Predictor", facts_of(self.bundle))

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
        coverage: float = USUAL_COVERAGE,
    ) -> pd.DataFrame:
        """Score the samples of an extract; neither splits nor labels are needed.

        Everything is in memory at once; `clinical.score` writes a file in portions.

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
            coverage: how often sets and intervals are to hold the truth, in whole hundredths from
                0.5 to 0.99.

        Returns:
            One row a sample, task, class and horizon, in the order of `samples` where given:
            subject_id, prediction_time, task, class, horizon_hours, score (a probability,
            calibrated as `calibration` says, a risk by the horizon, or a value), label and
            label_observed (where known), kind; of classes in_set (the conformal set holds this
            row's class) and other_in_set (and its opposite), of regression low and high, and their
            coverage, null where the model has no sets; calibration (its kind; "none" where scores
            are the network's own); reason (where there is no score), modalities; typicality (the
            share of the samples of `calibrate` that were no more typical of train, so that 0.05 or
            less is rare) and typicality_<modality>, of the whole record whatever is left out.

        Raises:
            SchemaError: the extract breaks its schema, or nothing in it is visible.
            ConfigError: `without` names something that the model does not have, or no such
                coverage can be asked for.
        """
        check_coverage(coverage)
        left_out = self.panel.left_out_with(without)
        with self.prepared(extract, samples=samples, context=context, work=work) as (store, rows):
            return self.score_store(store, rows, without=left_out, coverage=coverage)

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
        with self.prepared(extract, samples=samples, context=context, work=work) as (store, rows):
            return self.leave_out_store(store, rows, parts)

    def leave_out_store(
        self, store: Store, rows: np.ndarray, parts: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """The same for rows of a prepared store."""
        graph = [GRAPH] if self.bundle.config.graph.relations else []
        parts = [*self.bundle.config.modalities, *graph] if parts is None else parts
        left_out = [NOTHING, *(self.panel.left_out_with([part]) for part in parts)]
        watch = self.watch(store)
        each = self.panel.opinions(store, rows, left_out, watch=watch)
        frames = [self._frames(store, rows, found, USUAL_COVERAGE, watch) for found in each]
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
        panel = self.panel.as_pretrained()
        networks = panel.bundle.networks if learns_links(config) else ()
        linker = Linker.of(config, fitted, [each.model for each in networks], relation=relation)
        with self.prepared(extract, samples=samples, context=context, work=work) as (store, rows):
            memories = [memory for (memory,) in panel.memories(store)]
            return linker.rank(store, rows, top=top, memories=memories)

    def zero_shot(
        self,
        extract: str | Path,
        prompts: Prompts,
        *,
        modality: str | None = None,
        samples: pd.DataFrame | None = None,
        work: str | Path | None = None,
    ) -> pd.DataFrame:
        """Score a concept that nobody labelled, from what texts say of it.

        Asked are the networks as pretraining left them, which aligned notes with what else a
        sample has. The prompts are read as notes; a sample's own notes play no part.

        Args:
            extract, samples, work: as for `score`.
            prompts: class -> texts, of two classes or more. They should be worded as notes are;
                where a class has several, the mean of their places counts.
            modality: that is compared with the prompts; by default all that notes are aligned
                with, as far as a sample has them.

        Returns:
            One row a sample and class, in the order of `samples` where given: subject_id,
            prediction_time, class, score (a share of one over the classes, not calibrated),
            reason (where there is no score).

        Raises:
            ConfigError: the model is not aligned, or not with this modality; fewer than two
                classes, a class without a text, a text that is blank or too long.
            SchemaError: as for `score`.
        """
        asked = ZeroShot.of(self.bundle, prompts, modality=modality)
        with self.prepared(extract, samples=samples, work=work) as (store, rows):
            return asked.score(store, rows)

    def _calibration(self, task: str) -> list[str]:
        """[R] the kind of each score's calibration."""
        by_class, answer = self.bundle.calibration_of(task), self.bundle.answers[task]
        found = [by_class.get(name, by_class.get(None)) for name in answer.classes]
        return [NOT_CALIBRATED if f is None or f.is_missing else f.kind for f in found]

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
                embed=self.embed_keys,
            )
            yield store, _asked(store, samples)

    @cached_property
    def embed_keys(self) -> Embed | None:
        """What chooses neighbours by embedding: the first network, as pretraining left it."""
        config = self.bundle.config
        if not by_embedding(config):
            return None
        return partial(key_embedding, config, model=self.bundle.pretrained_networks()[0].model)

    def score_store(
        self,
        store: Store,
        rows: np.ndarray,
        *,
        without: frozenset[str] = NOTHING,
        coverage: float = USUAL_COVERAGE,
        memories: Memories | None = None,
        at_once: int = 1,
        watch: Watch | None = None,
    ) -> pd.DataFrame:
        """Score rows of a prepared store; see `score` for the columns.

        `memories` and `at_once` are those of `Panel.opinions`; `watch` is over the same store.
        """
        watch = self.watch(store) if watch is None else watch
        (found,) = self.panel.opinions(
            store, rows, [without], memories=memories, at_once=at_once, watch=watch
        )
        return self._frames(store, rows, found, coverage, watch)

    def watch(self, store: Store, weight: np.ndarray | None = None) -> Watch | None:
        """What notes how typical the samples of a store are; a draft may not know.

        Args:
            store: to be scored.
            weight: [N] in what is counted of the cohort; by default each person counts once.
        """
        known = self.bundle.typicality
        return None if known is None else Watch.of(known, store, weight)

    def opinions(self, store: Store, rows: np.ndarray) -> dict[str, Opinions]:
        """Uncalibrated logits of each network and expert, for rows of a prepared store, by task."""
        return self.panel.opinions(store, rows)[0]

    def logits(self, opinions: Mapping[str, Opinions]) -> dict[str, np.ndarray]:
        """Uncalibrated logits, networks and experts together: task -> [N, *shape] float64."""
        return self.panel.logits(opinions)

    def _scores(self, task: str, logits: np.ndarray) -> np.ndarray:
        """[N, R] scores of uncalibrated logits [N, *shape], calibrated as the model card says."""
        return self.bundle.answers[task].scores(logits, self.bundle.calibration_of(task))

    def probability(self, task: str, logits: np.ndarray) -> np.ndarray:
        """[N] of a binary task: its scores, of which a sample has one."""
        return self._scores(task, logits)[:, 0]

    def _frames(
        self,
        store: Store,
        rows: np.ndarray,
        opinions: Mapping[str, Opinions],
        coverage: float,
        watch: Watch | None,
    ) -> pd.DataFrame:
        """The rows of all tasks."""
        logits, samples = self.logits(opinions), store.samples[rows]
        frames = [self._frame(samples, task, logits[task], coverage) for task in self.tasks]
        if watch is not None:
            for frame in frames:
                add_typicality(frame, watch.p_values[rows], list(self.bundle.config.modalities))
        return together(frames)

    def _frame(
        self, samples: pl.DataFrame, task: str, logits: np.ndarray, coverage: float
    ) -> pd.DataFrame:
        config, answer = self.bundle.config, self.bundle.answers[task]
        scores = self._scores(task, logits)
        frame = long_frame(config, answer, task, samples, scores)
        n_each = scores.shape[1]
        sets = answer.sets(logits, self.bundle.conformal.get(task, {}), coverage)
        add_sets(frame, config.tasks[task].kind, sets, coverage=coverage)
        frame["calibration"] = self._calibration(task) * len(samples)
        reason = pd.Series(samples["reason"].to_list(), dtype="string")
        frame["reason"] = reason.repeat(n_each).reset_index(drop=True)
        frame["modalities"] = np.repeat(_modalities(samples, list(config.modalities)), n_each)
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
