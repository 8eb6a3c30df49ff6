"""The whole model, composed: encoders, fusion, patient graph, aspects, heads."""

from clinical.answers import Answer, answers_of
from clinical.batch import ClinicalBatch, Neighbours
from clinical.config import RunConfig, pick
from clinical.encoders import ENCODERS
from clinical.encoders.encoding import Encoder, Encoding
from clinical.encoders.frozen import frozen_digest
from clinical.encoders.ontology import CodeEmbedding
from clinical.fusion import FUSIONS, Parts
from clinical.graph import (
    AspectReadout,
    EmbeddingMemory,
    LinkHead,
    Message,
    MessagePassing,
    link_aspect,
    popularity,
)
from clinical.heads import HEADS_OF, Head

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


@dataclass(frozen=True)
class Encoded:
    """A batch's modalities, each by itself.

    Attributes:
        encodings: modality -> its encoding.
        summaries: [B, M, D]; finite but meaningless where absent.
        present: [B, M] bool, less what is withheld and what modality dropout took in training.
    """

    encodings: Mapping[str, Encoding]
    summaries: Tensor
    present: Tensor


@dataclass(frozen=True)
class Outputs:
    """All that one pass gives.

    Attributes:
        encodings: modality -> its encoding.
        fused: [B, D], the patient before anybody else is looked at.
        summaries, present: see `Encoded`.
        messages: relation -> [B, D], a learned state for a sample without neighbours.
        gates: relation -> [B] in [0, 1], how far its message was let in.
        linked: relation -> [B] bool, the sample has a neighbour (after dropout in training).
        aspects: task or relation -> [B, D].
        logits: task -> what its head makes of its aspect.
        links: [B, V] log odds that the sample has each code; None without the modality.
        memory: what the messages were read from.
    """

    encodings: Mapping[str, Encoding]
    fused: Tensor
    summaries: Tensor
    present: Tensor
    messages: Mapping[str, Tensor]
    gates: Mapping[str, Tensor]
    linked: Mapping[str, Tensor]
    aspects: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    links: Tensor | None
    memory: EmbeddingMemory


class ClinicalModel(nn.Module):
    """From a batch to one representation an aspect and logits a task.

    A relation can be closed, in training and for good: which are open is part of the weights.

    Random draws (modality and relation dropout) happen in training mode only and use torch's
    global generator, which the training loop seeds.

    Args:
        config: of the run.
        sizes: modality -> what its encoder needs to be built.
        n_reference: rows of the embedding memory.
        answers: of the tasks, with what train taught; may be left out where all are binary.

    Raises:
        ConfigError: an option that an encoder, the fusion or a head refuses.
    """

    is_open: Tensor

    def __init__(
        self,
        config: RunConfig,
        sizes: Mapping[str, Mapping[str, Any]],
        *,
        n_reference: int,
        answers: Mapping[str, Answer] | None = None,
    ) -> None:
        super().__init__()
        self.width = width = config.fusion.width
        self.modalities = tuple(config.modalities)
        self.relations = tuple(config.graph.relations)
        self.sizes = {name: dict(sizes[name]) for name in self.modalities}
        self.modality_dropout = config.fusion.modality_dropout
        self.relation_dropout = config.graph.dropout
        self.encoder_keys = {
            name: pick(modality.options, ENCODERS[modality.encoder])
            for name, modality in config.modalities.items()
        }
        encoders = {
            name: ENCODERS[modality.encoder](self.sizes[name], **self.encoder_keys[name])
            for name, modality in config.modalities.items()
        }
        self.encoder_widths = {name: encoder.width for name, encoder in encoders.items()}
        self.encoders = nn.ModuleDict(encoders)
        # Without a norm: what an encoder adds up stays additive on its way to the aspects.
        self.project = nn.ModuleDict(
            {name: nn.Linear(own, width) for name, own in self.encoder_widths.items()}
        )
        fusion = FUSIONS[config.fusion.kind]
        widths = list(self.encoder_widths.values())
        self.fusion = fusion(widths, width, **pick(config.fusion.options, fusion))
        self.reference_memory = EmbeddingMemory(n_reference if self.relations else 0, width)
        self.message_passing = nn.ModuleDict(
            {name: MessagePassing(width) for name in self.relations}
        )
        self.register_buffer("is_open", torch.ones(len(self.relations), dtype=torch.bool))
        self.relation_kinds = {
            name: relation.kind or name for name, relation in config.graph.relations.items()
        }
        self.link_aspect = link_aspect(self.relation_kinds, self.modalities)
        # A dict, since the one for links may be a relation's, or no one's.
        aspects = dict.fromkeys((*config.tasks, *self.relations, self.link_aspect))
        self.readout = AspectReadout(
            [aspect for aspect in aspects if aspect is not None],
            len(encoders),
            n_relations=len(self.relations),
            width=width,
        )
        answers = answers_of(config.tasks, {}) if answers is None else answers
        heads = HEADS_OF[config.finetune.head]
        self.heads = nn.ModuleDict(
            {name: heads[task.kind](width, answers[name]) for name, task in config.tasks.items()}
        )
        self.link_head: LinkHead | None = None
        if self.link_aspect is not None:
            table = self._codes
            self.link_head = LinkHead(width, table.embedding_dim, table.num_embeddings)

    def use_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Take note of what the data side learned from train, as modality -> plain values.

        No part of the state dict: it is said to every new model.

        Raises:
            ValueError: it is about other vocabularies.
        """
        for name in self.modalities:
            cast(Encoder, self.encoders[name]).use_statistics(statistics[name])
        if self.link_head is not None:
            known = popularity(statistics["codes"])
            if known.shape != self.link_head.bias.shape:
                raise ValueError(f"subjects: {len(known)} counts are of another vocabulary")
            self.link_head.popularity = known.to(self.link_head.popularity.device)

    @property
    def frozen(self) -> frozenset[str]:
        """Modalities of which frozen weights read every row."""
        return frozenset(
            name
            for name in self.modalities
            if cast(Encoder, self.encoders[name]).encoded_width is not None
        )

    def frozen_digests(self) -> dict[str, str]:
        """Frozen modality -> what tells its frozen weights, and how they are read, from others."""
        return {
            name: frozen_digest(
                cast(Encoder, self.encoders[name]),
                sizes=self.sizes[name],
                keys=self.encoder_keys[name],
            )
            for name in self.modalities
            if name in self.frozen
        }

    def settle(self) -> None:
        """Become what a bundle holds: built from sizes and configuration alone, ready to score."""
        for name in self.modalities:
            cast(Encoder, self.encoders[name]).settle()

    @property
    def open_relations(self) -> frozenset[str]:
        """Relations whose neighbours are heard."""
        return frozenset(
            name
            for name, is_open in zip(self.relations, self.is_open.tolist(), strict=True)
            if is_open
        )

    def keep_open(self, relations: Collection[str]) -> None:
        """Close every other relation: from now on it is as if nobody had neighbours by it."""
        self.is_open = torch.tensor(
            [name in relations for name in self.relations], device=self.is_open.device
        )

    @property
    def memory(self) -> Tensor:
        """[N, D] the references' fused summaries."""
        return self.reference_memory.embedding

    def set_memory(self, embedding: Tensor) -> None:
        """Write the fused summaries [N, D] of all references, as `embed` gives them."""
        self.reference_memory.replace_all(embedding)

    def find_directions(
        self, neighbours: Mapping[str, Neighbours], subject: Tensor
    ) -> dict[str, int]:
        """Find on what neighbours agree with the references, by relation; how many directions hold.

        Args:
            neighbours: of every reference, in the memory's order.
            subject: [N] int64, whose row of the memory it is.
        """
        return {
            name: self._passing(name).find_directions(self.reference_memory, edges, subject)
            for name, edges in neighbours.items()
        }

    def directions(self, relation: str) -> Tensor:
        """[D, R] along which a relation's neighbours agree with a patient; zero where none was
        found."""
        return self._passing(relation).directions

    def follow_directions(self) -> None:
        """Bring what `find_directions` found up to the memory that was just written."""
        for name in self.relations:
            self._passing(name).follow(self.reference_memory)

    def _passing(self, relation: str) -> MessagePassing:
        return cast(MessagePassing, self.message_passing[relation])

    def head(self, task: str) -> Head:
        """The head of a task."""
        return cast(Head, self.heads[task])

    @property
    def _codes(self) -> CodeEmbedding:
        """The embeddings of the codes, as their encoder reads them."""
        return cast(CodeEmbedding, self.encoders["codes"].code_embedding)

    def embedding_table(self, modality: str) -> nn.Embedding | None:
        """What a modality's encoder looks up its words in, if it says so."""
        table = getattr(self.encoders[modality], "word_embedding", None)
        return table if isinstance(table, nn.Embedding) else None

    def encode(self, batch: ClinicalBatch) -> Encoded:
        """Encode every modality by itself."""
        encodings = {name: self.encoders[name](batch.inputs[name]) for name in self.modalities}
        summaries = torch.stack(
            [self.project[name](encodings[name].summary) for name in self.modalities], 1
        )
        present = torch.stack([batch.seen(name) for name in self.modalities], 1)
        if self.training:
            present = drop_modalities(present, self.modality_dropout)
        return Encoded(encodings, summaries, present)

    def fuse(self, encoded: Encoded) -> Tensor:
        """[B, D] the modalities brought together; any subset may be present."""
        each = [encoded.encodings[name] for name in self.modalities]
        parts = Parts(
            summaries=encoded.summaries,
            present=encoded.present,
            tokens=[encoding.tokens for encoding in each],
            masks=[encoding.token_mask for encoding in each],
        )
        fused: Tensor = self.fusion(parts)
        return fused

    def embed(self, batch: ClinicalBatch) -> Tensor:
        """[B, D] the fused summary before message passing: what the memory holds."""
        return self.fuse(self.encode(batch))

    def forward(self, batch: ClinicalBatch, *, memory: Tensor | None = None) -> Outputs:
        """One pass.

        Args:
            batch: every configured modality and relation.
            memory: [N + M, D] rows to read instead of the model's own, for scoring with the
                contemporaries of a new cohort behind the references.
        """
        return self.answer(self.encode(batch), batch.neighbours, memory=memory)

    def answer(
        self,
        encoded: Encoded,
        neighbours: Mapping[str, Neighbours],
        *,
        memory: Tensor | None = None,
        fused: Tensor | None = None,
    ) -> Outputs:
        """What follows the encoders, so that the same encodings can be asked several things.

        Args:
            encoded: see `encode`.
            neighbours: of the same samples.
            memory: as for `forward`.
            fused: [B, D] what `fuse` made of `encoded`, where it was called before; then the
                encodings are not read again, and may be left out.
        """
        fused = self.fuse(encoded) if fused is None else fused
        rows = self.reference_memory
        rows = rows if memory is None else rows.holding(memory)
        said = self._pass_messages(fused, neighbours, rows)
        messages = {name: message.content for name, message in said.items()}
        sources = list(messages.values())
        aspects = self.readout(fused, encoded.summaries, encoded.present, sources)
        return Outputs(
            encodings=encoded.encodings,
            fused=fused,
            summaries=encoded.summaries,
            present=encoded.present,
            messages=messages,
            gates={name: message.gate for name, message in said.items()},
            linked={name: message.linked for name, message in said.items()},
            aspects=aspects,
            logits={name: head(aspects[name]) for name, head in self.heads.items()},
            links=self._link(aspects),
            memory=rows,
        )

    def _link(self, aspects: Mapping[str, Tensor]) -> Tensor | None:
        if self.link_head is None or self.link_aspect is None:
            return None
        links: Tensor = self.link_head(aspects[self.link_aspect], self._codes.table())
        return links

    def _pass_messages(
        self, fused: Tensor, neighbours: Mapping[str, Neighbours], rows: EmbeddingMemory
    ) -> dict[str, Message]:
        said: dict[str, Message] = {}
        open_relations = self.open_relations
        for name in self.relations:
            passing = self._passing(name)
            if name not in open_relations:
                said[name] = passing.silence(fused)
                continue
            edges = neighbours[name]
            if self.training:
                draws = torch.rand(len(fused), device=fused.device)
                edges = edges.drop(draws < self.relation_dropout)
            said[name] = passing(fused, rows, edges)
        return said


def drop_modalities(present: Tensor, share: float) -> Tensor:
    """`present` [B, M] less a random share of its entries, never the last of a sample."""
    draws = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    kept = draws >= share
    last = one_hot(draws.argmax(1), present.shape[1]).bool() & present
    return torch.where(kept.any(1, keepdim=True), kept, last)
