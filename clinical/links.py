"""Codes that a patient likely has and the extract lacks: edges that pretraining would expect."""

from clinical.batch import ClinicalBatch
from clinical.cohort.fitted import Fitted
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.containers import CodeSet
from clinical.datamodule import make_loader
from clinical.encoders.ontology import Ontology, owned
from clinical.errors import ConfigError
from clinical.model import ClinicalModel
from clinical.objectives import OBJECTIVES, drop_fed_relations
from clinical.relations.linking import relations_of

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

BATCH_SIZE = 64
FEWEST_SUBJECTS = 3
"""Train subjects that a code needs for anything to be said about who else has it."""


def learns_edges(config: RunConfig) -> bool:
    """Whether pretraining hides edges of the graph and predicts them."""
    if config.pretrain is None or not config.is_pretrained:
        return False
    edges = config.pretrain.objectives.get("edges")
    return edges is not None and edges.weight > 0


def learns_links(config: RunConfig) -> bool:
    """Whether pretraining hides codes and predicts them."""
    return learns_edges(config) and "codes" in config.modalities


def learned_relations(config: RunConfig) -> tuple[str, ...]:
    """Relations whose own aspect has been asked for something: who is linked."""
    if not learns_edges(config):
        return ()
    relations = relations_of(config).items()
    return tuple(name for name, relation in relations if not relation.by_embedding)


def as_pretrained(config: RunConfig, batch: ClinicalBatch) -> ClinicalBatch:
    """A batch without the relations that were always dropped while edges were learned."""
    objectives = config.pretrain.objectives if config.pretrain else {}
    together = [o for name, o in OBJECTIVES.items() if name in objectives and not o.own_pass]
    hidden = {modality for objective in together for modality in objective.hides}
    feeds = {name: relation.feeds for name, relation in relations_of(config).items()}
    return drop_fed_relations(batch, hidden, feeds)


@dataclass(frozen=True)
class Linker:
    """The networks as pretraining left them, and what they know of codes.

    Attributes:
        config: of the run.
        fitted: what the data side learned from train.
        models: in evaluation mode, their memories in place.
    """

    config: RunConfig
    fitted: Fitted
    models: Sequence[ClinicalModel]

    @classmethod
    def of(
        cls,
        config: RunConfig,
        fitted: Fitted,
        models: Sequence[ClinicalModel],
        *,
        relation: str | None,
    ) -> "Linker":
        """Refuse a model without links, or without those by `relation`.

        Raises:
            ConfigError: naming what it has.
        """
        if not models:
            raise ConfigError(
                "link: the model has not learned links; train it with the modality codes and "
                "edges among pretrain.objectives"
            )
        has = models[0].link_aspect
        if relation not in (None, has):
            raise ConfigError(
                f"relation: the model has no links by {relation}, but by {has}; name that, or "
                f"train it with graph.relations.{relation}"
            )
        return cls(config, fitted, models)

    def rank(
        self,
        store: Store,
        rows: np.ndarray,
        *,
        top: int | None,
        memories: Sequence[Tensor] | None = None,
    ) -> pd.DataFrame:
        """Candidate codes of some samples of a prepared store, the likeliest first.

        Candidates are codes of enough train subjects that are not visible, nor an ancestor or a
        special case of one that is, and that no other modality shows. A sample of which nothing is
        visible has no rows.

        Args:
            store: of the extract.
            rows: of the samples; their order is that of the table.
            top: codes a sample; all candidates if None.
            memories: of each network, the rows of the references and those of the store's context
                behind them; without a context the networks have their own.

        Returns:
            See `Predictor.link`.
        """
        rows = rows[store.samples[rows]["reason"].is_null().to_numpy()]
        read = [None] * len(self.models) if memories is None else memories
        batches = make_loader(store.folder, self.config, rows, batch_size=BATCH_SIZE)
        parts = [_Ranked.of_nobody(), *(self._ranked(b, top, read) for b in batches)]
        found = _Ranked(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
        place = np.empty(store.n_samples, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        # Batches come by length.
        order = np.lexsort((found.rank.numpy(), place[found.row.numpy()]))
        return self._frame(store, _Ranked(*(column[order] for column in found)))

    def _ranked(
        self, batch: ClinicalBatch, top: int | None, memories: Sequence[Tensor | None]
    ) -> "_Ranked":
        links = self._links(batch, memories)
        fits = (self._subjects >= FEWEST_SUBJECTS) & ~self._known(batch)
        order = links.masked_fill(~fits, -torch.inf).argsort(dim=1, descending=True, stable=True)
        order = order[:, :top]
        sample, place = torch.nonzero(fits.gather(1, order), as_tuple=True)
        code = order[sample, place]
        return _Ranked(batch.row[sample], code, links[sample, code], place + 1)

    def _frame(self, store: Store, ranked: "_Ranked") -> pd.DataFrame:
        samples = store.samples[ranked.row.numpy()]
        vocabulary = pd.array(self.fitted.statistics["codes"]["vocabulary"], dtype="string")
        return pd.DataFrame(
            {
                "subject_id": samples["subject_id"].to_numpy(),
                "prediction_time": samples["prediction_time"].to_numpy(),
                "code": vocabulary.take(ranked.code.numpy()),
                "score": ranked.link.sigmoid().numpy(),
                "rank": ranked.rank.numpy(),
                "train_subjects": self._subjects[ranked.code].numpy(),
            }
        )

    @cached_property
    def _subjects(self) -> Tensor:
        """[V] train subjects who have each code; 0 for those nobody is asked about."""
        return torch.tensor(self.fitted.statistics["codes"]["subjects"], dtype=torch.int64)

    @cached_property
    def _ontology(self) -> Ontology:
        ontology = Ontology(len(self._subjects))
        ontology.set_ancestors(self.fitted.statistics["codes"]["parents"])
        return ontology

    def _known(self, batch: ClinicalBatch) -> Tensor:
        """[B, V] bool: the code is visible, or above or below one that is."""
        codes = batch.inputs["codes"]
        assert isinstance(codes, CodeSet)
        has = owned(codes.code, codes.mask, len(self._subjects))
        return has | self._ontology.above(has) | self._ontology.below(has)

    @torch.inference_mode()
    def _links(self, batch: ClinicalBatch, memories: Sequence[Tensor | None]) -> Tensor:
        """[B, V] float64 mean log odds of having each code."""
        seen = as_pretrained(self.config, batch)
        asked = zip(self.models, memories, strict=True)
        said = [model(seen, memory=memory).links for model, memory in asked]
        return torch.stack([links.double() for links in said if links is not None]).mean(0)


class _Ranked(NamedTuple):
    """Candidates: row of the store, row of the vocabulary, log odds and rank, [n] each."""

    row: Tensor
    code: Tensor
    link: Tensor
    rank: Tensor

    @classmethod
    def of_nobody(cls) -> "_Ranked":
        """Not one."""
        none = torch.zeros(0, dtype=torch.int64)
        return cls(none, none, none.double(), none)
