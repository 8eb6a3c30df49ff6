"""Masked edges between patients: hide some of a relation's, find the neighbour among others."""

from clinical.batch import ClinicalBatch, Neighbours
from clinical.graph import PairHead
from clinical.objectives.objective import ModelOutputs, ReferenceEdges, SizedModel, uniform

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class HiddenPatients:
    """Hidden edges of one relation, each with references among which its neighbour is.

    Attributes:
        sample: [E] int64, the sample in the batch.
        candidates: [E, C] int64, rows of the memory; the first is the neighbour.
        fits: [E, C] bool, whether a candidate counts: not if it is of the sample's own subject or
            of another one's that the sample is linked to.
    """

    sample: Tensor
    candidates: Tensor
    fits: Tensor


class MaskedPatients(nn.Module):
    """Hide a share of the pairs of subjects that a relation links, find who was linked.

    So each relation has an aspect of its own, in which a patient is close to its neighbours. A
    relation that is chosen by what is hidden besides has no messages in that pass, and is still
    asked for; one that has no edges yet, as by embedding, is not. What another relation says of
    the same pair stays.

    A pair is hidden as a whole: all samples of the one as neighbours of all samples of the other,
    in both directions, or what is left of it would tell. The memory tells nothing of it either:
    it holds what references are by themselves.

    The other candidates are ends of edges of the same relation, drawn as often as edges lead to
    them: all have neighbours of this kind, and one to whom many are linked is as common among them
    as among neighbours, so that only what fits the sample tells them apart. The loss is in units
    of guessing, so about 1 at the start.

    Args:
        model: its relations.
        share: of the pairs of a batch.
        candidates: C.
    """

    subject: Tensor
    reference_subject: Tensor

    def __init__(self, model: SizedModel, *, share: float, candidates: int) -> None:
        super().__init__()
        self.share = share
        self.n_others = candidates - 1
        self.relations: tuple[str, ...] = ()
        names = tuple(model.relation_kinds)
        self.heads = nn.ModuleDict({name: PairHead(model.width) for name in names})
        self.ends = nn.ModuleDict({name: _Ends() for name in names})
        for name in ("subject", "reference_subject"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64), persistent=False)

    def use_references(self, references: ReferenceEdges) -> None:
        """Take note of who is who, and of the references that somebody is linked to.

        Until then no pair is hidden.
        """
        self.relations = tuple(
            name for name, edges in references.neighbours.items() if bool((edges.rows >= 0).any())
        )
        device = self.subject.device
        self.subject = references.subject.to(device)
        self.reference_subject = references.subject[references.rows].to(device)
        for name, ends in self.ends.items():
            rows = references.neighbours[name].rows
            ends.row = rows[rows >= 0].to(device)

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, dict[str, HiddenPatients]]:
        """Hide pairs of every relation."""
        neighbours, hidden = dict(batch.neighbours), {}
        for name in self.relations:
            edges, own = batch.neighbours[name], self.subject[batch.row]
            gone = self._chosen(edges, own, generator)
            neighbours[name] = edges.keep(~gone)
            hidden[name] = self._asked(name, edges, own, gone, generator=generator)
        return replace(batch, neighbours=neighbours), hidden

    def parts(
        self, outputs: ModelOutputs, hidden: Mapping[str, HiddenPatients]
    ) -> dict[str, Tensor]:
        """Relation -> cross-entropy of the neighbour among its candidates; their sum is a mean."""
        return {
            name: self._surprise(name, outputs, asked) / len(hidden)
            for name, asked in hidden.items()
        }

    def _chosen(self, edges: Neighbours, own: Tensor, generator: torch.Generator) -> Tensor:
        """[B, K] bool: the edge is one of a hidden pair of subjects."""
        gone = edges.rows >= 0
        sample, _ = torch.nonzero(gone, as_tuple=True)
        ends = torch.stack([own[sample], self.reference_subject[edges.rows[gone]]])
        pairs, pair = ends.sort(dim=0).values.unique(dim=1, return_inverse=True)
        hides = uniform((pairs.shape[1],), generator, own) < self.share
        gone[gone.clone()] = hides[pair]
        return gone

    def _asked(
        self,
        name: str,
        edges: Neighbours,
        own: Tensor,
        gone: Tensor,
        *,
        generator: torch.Generator,
    ) -> HiddenPatients:
        sample, place = torch.nonzero(gone, as_tuple=True)
        ends = cast(_Ends, self.ends[name]).row
        # An edge may be hidden though no reference has any, as one to a sample of tuning.
        n_others = self.n_others if len(ends) else 0
        draws = uniform((len(sample), n_others), generator, own)
        others = ends[(draws * len(ends)).long().clamp_max(len(ends) - 1)]
        candidates = torch.cat([edges.rows[sample, place][:, None], others], 1)
        subject = self.reference_subject[candidates]
        linked = self.reference_subject[edges.rows.clamp_min(0)].masked_fill(edges.rows < 0, -1)
        fits = subject != own[sample, None]
        fits &= ~(subject[:, :, None] == linked[sample][:, None]).any(2)
        fits[:, 0] = True
        return HiddenPatients(sample, candidates, fits)

    def _surprise(self, name: str, outputs: ModelOutputs, asked: HiddenPatients) -> Tensor:
        rows = outputs.memory.read(asked.candidates)
        logits = self.heads[name](outputs.aspects[name][asked.sample], rows)
        chances = logits.masked_fill(~asked.fits, -torch.inf).log_softmax(1)
        guessing = asked.fits.sum(1).log().sum().clamp_min(1e-6)
        surprise: Tensor = -chances[:, 0].sum() / guessing
        return surprise


class _Ends(nn.Module):
    """References to whom edges of one relation lead, [n], each as often as that is so."""

    row: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("row", torch.zeros(0, dtype=torch.int64), persistent=False)
