"""Scoring patients with a finished model."""

from clinical.batch import ClinicalBatch
from clinical.bundle import Bundle
from clinical.cohort.store import Store
from clinical.config import likely
from clinical.datamodule import make_loader
from clinical.errors import ConfigError
from clinical.preparation import prepare_for_scoring
from clinical.relations.linking import relations_of

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import torch
from torch import Tensor

BATCH_SIZE = 64
GRAPH = "graph"


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
            One row a sample and task: subject_id, prediction_time, task, class, horizon_hours,
            score (a calibrated probability), reason (where there is no score), modalities.

        Raises:
            SchemaError: the extract breaks its schema, or nothing in it is visible.
            ConfigError: `without` names something that the model does not have.
        """
        left_out = self._left_out(without)
        with tempfile.TemporaryDirectory() as temporary:
            store = prepare_for_scoring(
                self.bundle.config,
                self.bundle.fitted,
                Path(extract),
                Path(work) if work is not None else Path(temporary) / "store",
                samples=None if samples is None else pl.from_pandas(samples),
                context=None if context is None else Path(context),
            )
            return self.score_store(store, np.arange(store.n_samples), without=left_out)

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
        logits = self.logits(store, rows, without=without)
        frames = [self._frame(store, rows, task, logits[task]) for task in self.tasks]
        return pd.concat(frames, ignore_index=True)

    def logits(
        self, store: Store, rows: np.ndarray, *, without: frozenset[str] = frozenset()
    ) -> dict[str, np.ndarray]:
        """Uncalibrated scores of rows of a prepared store: task -> [len(rows)] float64."""
        found = {task: np.full(store.n_samples, np.nan) for task in self.tasks}
        memory = self._memory_with_context(store, without)
        for batch in self._batches(store, rows, without):
            with torch.inference_mode():
                outputs = self.bundle.model(batch, memory=memory)
            for task in self.tasks:
                found[task][batch.row.numpy()] = outputs.logits[task].double().numpy()
        return {task: values[rows] for task, values in found.items()}

    def _memory_with_context(self, store: Store, without: frozenset[str]) -> Tensor:
        """[N + M, D]: the references' embeddings, then those of the context's samples."""
        memory = self.bundle.memory
        context = store.context
        if context is None:
            return memory
        embedding = torch.zeros(context.n_samples, memory.shape[1])
        for batch in self._batches(context, np.arange(context.n_samples), without):
            with torch.inference_mode():
                embedding[batch.row] = self.bundle.model.embed(batch)
        # Half precision, as the references have it in the bundle.
        return torch.cat([memory, embedding.to(torch.float16).float()])

    def _batches(
        self, store: Store, rows: np.ndarray, without: frozenset[str]
    ) -> Iterator[ClinicalBatch]:
        config = self.bundle.config
        loader = make_loader(
            store.folder,
            config,
            rows,
            batch_size=BATCH_SIZE,
            workers=config.trainer.workers,
            shuffle_seed=None,
        )
        for batch in loader:
            everyone = torch.ones(len(batch), dtype=torch.bool)
            for name in without & batch.inputs.keys():
                batch = batch.replace(**{name: batch.inputs[name].drop(everyone)})
            for name in without & batch.neighbours.keys():
                batch = batch.without_relation(name)
            yield batch

    def _frame(self, store: Store, rows: np.ndarray, task: str, logits: np.ndarray) -> pd.DataFrame:
        samples = store.samples[rows]
        score = self._probability(task, logits)
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

    def _probability(self, task: str, logits: np.ndarray) -> np.ndarray:
        calibration = self.bundle.calibration.get(task)
        if calibration is not None:
            return calibration.apply(logits)
        uncalibrated: np.ndarray = 1.0 / (1.0 + np.exp(-logits))
        return uncalibrated


def _modalities(samples: pl.DataFrame, names: list[str]) -> list[str]:
    """The modalities present, joined by "+", for each sample."""
    present = samples.select(f"present.{name}" for name in names).to_numpy()
    return ["+".join(n for n, has in zip(names, row, strict=True) if has) for row in present]
