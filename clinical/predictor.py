"""Scoring patients with a finished model."""

from clinical.batch import ClinicalBatch, Neighbours
from clinical.bundle import Bundle
from clinical.cohort.samples import aligned_samples
from clinical.cohort.store import Store
from clinical.config_file import likely
from clinical.datamodule import make_loader
from clinical.errors import ConfigError
from clinical.experts.stack import EVEN, stacked
from clinical.model import ClinicalModel, Encoded
from clinical.prediction_table import long_frame, together
from clinical.preparation import prepare_for_scoring
from clinical.relations.linking import relations_of

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import torch
from torch import Tensor

BATCH_SIZE = 64
GRAPH = "graph"


@dataclass(frozen=True)
class Opinions:
    """What the networks and the experts of a bundle say of some samples, in logits of a task.

    Attributes:
        networks: [M, N, *shape] float64, `shape` being that of the task's answer.
        experts: [E, N] float64; E is 0 unless the task is binary.
    """

    networks: np.ndarray
    experts: np.ndarray

    @classmethod
    def unknown(
        cls, n_networks: int, n_experts: int, n_samples: int, shape: tuple[int, ...] = ()
    ) -> "Opinions":
        """To be filled in; NaN until then."""
        networks = np.full((n_networks, n_samples, *shape), np.nan)
        return cls(networks, np.full((n_experts, n_samples), np.nan))

    def of(self, samples: np.ndarray) -> "Opinions":
        """Those of some samples."""
        return Opinions(self.networks[:, samples], self.experts[:, samples])


class Predictor:
    """A bundle ready to score.

    A sample's score depends on the sample, the bundle and the context alone: not on who else
    is scored, nor in which order.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

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
            One row a sample, task, class and horizon, in the order of `samples` where given:
            subject_id, prediction_time, task, class, horizon_hours, score (a probability,
            calibrated as the model card says, a risk by the horizon, or a value), label and
            label_observed (where known), kind, reason (where there is no score), modalities.

        Raises:
            SchemaError: the extract breaks its schema, or nothing in it is visible.
            ConfigError: `without` names something that the model does not have.
        """
        left_out = self._left_out(without)
        with self._prepared(extract, samples, context, work) as store:
            return self.score_store(store, _asked(store, samples), without=left_out)

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
        left_out = [frozenset[str](), *(self._left_out([part]) for part in parts)]
        with self._prepared(extract, samples, context, work) as store:
            rows = _asked(store, samples)
            frames = self._score_each(store, rows, left_out)
        for part, frame in zip([None, *parts], frames, strict=True):
            frame.insert(0, "left_out", pd.Series([part] * len(frame), dtype="string"))
        return pd.concat(frames, ignore_index=True)

    @contextmanager
    def _prepared(
        self,
        extract: str | Path,
        samples: pd.DataFrame | None,
        context: str | Path | None,
        work: str | Path | None,
    ) -> Iterator[Store]:
        with tempfile.TemporaryDirectory() as temporary:
            yield prepare_for_scoring(
                self.bundle.config,
                self.bundle.fitted,
                Path(extract),
                Path(work) if work is not None else Path(temporary) / "store",
                samples=None if samples is None else pl.from_pandas(samples),
                context=None if context is None else Path(context),
            )

    def _left_out(self, without: Sequence[str]) -> frozenset[str]:
        config = self.bundle.config
        relations = frozenset(config.graph.relations)
        known = {*config.modalities, *relations, GRAPH}
        for name in without:
            if name not in known:
                raise ConfigError(f"without: the model has no {name}{likely(name, known)}")
        if GRAPH in without:
            return frozenset(without) | relations
        fed = relations_of(config).items()
        return frozenset(without) | {n for n, r in fed if not r.feeds.isdisjoint(without)}

    def score_store(
        self, store: Store, rows: np.ndarray, *, without: frozenset[str] = frozenset()
    ) -> pd.DataFrame:
        """Score rows of a prepared store; see `score` for the columns."""
        return self._score_each(store, rows, [without])[0]

    def opinions(self, store: Store, rows: np.ndarray) -> dict[str, Opinions]:
        """Uncalibrated logits of each network and expert, for rows of a prepared store, by task."""
        return self._opinions_each(store, rows, [frozenset()])[0]

    def logits(self, opinions: Mapping[str, Opinions]) -> dict[str, np.ndarray]:
        """Uncalibrated logits, networks and experts together: task -> [N, *shape] float64."""
        stack = self.bundle.stack
        return {
            task: stacked(said.networks, said.experts, stack.get(task, EVEN))
            for task, said in opinions.items()
        }

    def _score_each(
        self, store: Store, rows: np.ndarray, left_out: Sequence[frozenset[str]]
    ) -> list[pd.DataFrame]:
        each = [self.logits(opinions) for opinions in self._opinions_each(store, rows, left_out)]
        return [
            together([self._frame(store, rows, task, logits[task]) for task in self.tasks])
            for logits in each
        ]

    def _opinions_each(
        self, store: Store, rows: np.ndarray, left_out: Sequence[frozenset[str]]
    ) -> list[dict[str, Opinions]]:
        """The logits without each of `left_out`; what is left out, the context lacks as well."""
        networks = self.bundle.networks
        found = [self._unknown(store.n_samples) for _ in left_out]
        memories = self._memories_with_context(store, left_out)
        for batch in self._batches(store, rows):
            at = batch.row.numpy()
            for number, network in enumerate(networks):
                asked = self._asked_network(network.model, batch, left_out, memories[number])
                for opinions, logits in zip(found, asked, strict=True):
                    for task, logit in logits.items():
                        opinions[task].networks[number, at] = logit.double().numpy()
            for opinions, said in zip(found, self._asked_experts(batch, left_out), strict=True):
                for task, by_expert in said.items():
                    opinions[task].experts[:, at] = by_expert
        return [{task: said.of(rows) for task, said in each.items()} for each in found]

    def _unknown(self, n_samples: int) -> dict[str, Opinions]:
        """Opinions by task, to be filled in."""
        n_networks, experts = len(self.bundle.networks), self.bundle.experts.values()
        return {
            task: Opinions.unknown(
                n_networks, sum(task in tasks for tasks in experts), n_samples, answer.shape
            )
            for task, answer in self.bundle.answers.items()
        }

    @torch.inference_mode()
    def _asked_network(
        self,
        model: ClinicalModel,
        batch: ClinicalBatch,
        left_out: Sequence[frozenset[str]],
        memories: Sequence[Tensor],
    ) -> list[Mapping[str, Tensor]]:
        """Logits by task without each of `left_out`; the batch is encoded once."""
        encoded = model.encode(batch)
        return [
            model.answer(
                self._less(encoded, without), _less_relations(batch, without), memory=memory
            ).logits
            for without, memory in zip(left_out, memories, strict=True)
        ]

    def _asked_experts(
        self, batch: ClinicalBatch, left_out: Sequence[frozenset[str]]
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """[E, B] logits by task without each of `left_out`."""
        experts = self.bundle.experts.values()
        for without in left_out:
            if not experts:
                yield {}
                continue
            features = self.bundle.tabulator.features(batch, without)
            yield {
                task: np.stack([expert[task].logit(features) for expert in experts])
                for task in self.bundle.config.binary_tasks
            }

    def _memories_with_context(
        self, store: Store, left_out: Sequence[frozenset[str]]
    ) -> list[list[Tensor]]:
        """[N + M, D] a network and `left_out`: the references' embeddings, then the context's."""
        networks, context = self.bundle.networks, store.context
        if context is None:
            return [[network.memory] * len(left_out) for network in networks]
        embeddings = [
            torch.zeros(len(left_out), context.n_samples, network.memory.shape[1])
            for network in networks
        ]
        for batch in self._batches(context, np.arange(context.n_samples)):
            with torch.inference_mode():
                for network, each in zip(networks, embeddings, strict=True):
                    encoded = network.model.encode(batch)
                    for embedding, without in zip(each, left_out, strict=True):
                        embedding[batch.row] = network.model.fuse(self._less(encoded, without))
        # Half precision, as the references have it in the bundle.
        return [
            [torch.cat([network.memory, e.to(torch.float16).float()]) for e in each]
            for network, each in zip(networks, embeddings, strict=True)
        ]

    def _less(self, encoded: Encoded, without: frozenset[str]) -> Encoded:
        kept = torch.tensor([name not in without for name in self.bundle.config.modalities])
        return replace(encoded, present=encoded.present & kept)

    def _batches(self, store: Store, rows: np.ndarray) -> Iterator[ClinicalBatch]:
        config = self.bundle.config
        return iter(
            make_loader(
                store.folder,
                config,
                rows,
                batch_size=BATCH_SIZE,
                workers=config.trainer.workers,
                shuffle_seed=None,
            )
        )

    def _frame(self, store: Store, rows: np.ndarray, task: str, logits: np.ndarray) -> pd.DataFrame:
        config, samples = self.bundle.config, store.samples[rows]
        scores = self.bundle.answers[task].scores(logits, self.bundle.calibration_of(task))
        frame = long_frame(config, self.bundle.answers[task], task, samples, scores)
        n_each = len(frame) // max(1, len(rows))
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


def _less_relations(batch: ClinicalBatch, without: frozenset[str]) -> Mapping[str, Neighbours]:
    for name in without & batch.neighbours.keys():
        batch = batch.without_relation(name)
    return batch.neighbours


def _modalities(samples: pl.DataFrame, names: list[str]) -> list[str]:
    """The modalities present, joined by "+", for each sample."""
    present = samples.select(f"present.{name}" for name in names).to_numpy()
    return ["+".join(n for n, has in zip(names, row, strict=True) if has) for row in present]
