"""What a panel would say without a relation, and without each single neighbour.

Ablation and not attention: the weight that a neighbour's row gets tells where the network looks,
not what it makes of it.
"""

from clinical.batch import ClinicalBatch, Neighbours
from clinical.cohort.store import Store
from clinical.model import ClinicalModel, Encoded
from clinical.predictor.panel import NOTHING, Opinions, Panel, encode

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EDGES_AT_ONCE = 1024
"""Answered together: one edge costs as much as a sample without its encoders."""

Said = Mapping[str, Tensor]
"""Task -> [N] logits of one network."""


@dataclass(frozen=True)
class Edges:
    """One relation's edges into some samples, one after the other.

    Attributes:
        sample: [E] int64, place of the sample among those asked about.
        neighbour: [E] int64, row of the memory: the references, then the context.
        weight: [E] float32.
        logits: task -> [E] float64, of the sample without this edge.
    """

    sample: np.ndarray
    neighbour: np.ndarray
    weight: np.ndarray
    logits: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Ablated:
    """Uncalibrated logits of some samples, networks and experts together.

    Attributes:
        rows: [N] int64, of the store.
        whole: task -> [N] float64, with nothing left out.
        without: relation -> task -> [N] float64.
        edges: relation -> what is left out one by one.
    """

    rows: np.ndarray
    whole: Mapping[str, np.ndarray]
    without: Mapping[str, Mapping[str, np.ndarray]]
    edges: Mapping[str, Edges]


def ablate(panel: Panel, store: Store, rows: np.ndarray) -> Iterator[Ablated]:
    """Ask about rows of a store, a batch at a time; every sample is encoded once a network.

    The logits without a relation are those that leaving it out of a score gives.
    """
    relations = list(panel.bundle.config.graph.relations)
    left_out = [NOTHING, *(frozenset([name]) for name in relations)]
    # What a relation tells is not in the rows of the memory, so one memory does for all.
    memories = [memory for (memory,) in panel.memories(store)]
    for batch in panel.batches(store, rows):
        experts = panel.expert_logits(batch)
        everyone = np.arange(len(batch))
        places = {name: _places(batch.neighbours[name]) for name in relations}
        by_part: list[list[Said]] = []
        by_edge: dict[str, list[Said]] = {name: [] for name in relations}
        for network, memory in zip(panel.bundle.networks, memories, strict=True):
            model, encoded = network.model, encode(network.model, batch)
            said = panel.answers(
                model, batch, encoded=encoded, left_out=left_out, memories=[memory] * len(left_out)
            )
            by_part.append(said)
            for name in relations:
                less = _less_each(
                    model,
                    batch,
                    encoded=encoded,
                    memory=memory,
                    relation=name,
                    places=places[name],
                    whole=said[0],
                )
                by_edge[name].append(less)
        whole, *without = (
            _together(panel, said, experts=experts, sample=everyone)
            for said in zip(*by_part, strict=True)
        )
        edges = {
            name: _edges(
                panel,
                batch.neighbours[name],
                places=places[name],
                said=by_edge[name],
                experts=experts,
            )
            for name in relations
        }
        yield Ablated(batch.row.numpy(), whole, dict(zip(relations, without, strict=True)), edges)


def _places(edges: Neighbours) -> tuple[Tensor, Tensor]:
    """[E] sample and [E] place among its K of each edge that there is."""
    sample, place = torch.nonzero(edges.rows >= 0, as_tuple=True)
    return sample, place


@torch.inference_mode()
def _less_each(
    model: ClinicalModel,
    batch: ClinicalBatch,
    *,
    encoded: Encoded,
    memory: Tensor,
    relation: str,
    places: tuple[Tensor, Tensor],
    whole: Said,
) -> Said:
    """[E] logits of one network by task, without each edge of a relation."""
    samples, _ = places
    if not len(samples) or relation not in model.open_relations:
        return {task: logits[samples] for task, logits in whole.items()}
    # Fused once: an edge more or less changes nothing before the messages.
    fused, answers = model.fuse(encoded), []
    for sample, place in zip(*(part.split(EDGES_AT_ONCE) for part in places), strict=True):
        neighbours = {
            name: Neighbours(rows=edges.rows[sample], weight=edges.weight[sample])
            for name, edges in batch.neighbours.items()
        }
        kept = torch.ones_like(neighbours[relation].rows, dtype=torch.bool)
        kept[torch.arange(len(sample)), place] = False
        neighbours[relation] = neighbours[relation].keep(kept)
        again = Encoded({}, encoded.summaries[sample], encoded.present[sample])
        said = model.answer(again, neighbours, memory=memory, fused=fused[sample])
        answers.append(said.logits)
    return {task: torch.cat([answer[task] for answer in answers]) for task in whole}


def _edges(
    panel: Panel,
    edges: Neighbours,
    *,
    places: tuple[Tensor, Tensor],
    said: Sequence[Said],
    experts: Mapping[str, np.ndarray],
) -> Edges:
    sample = places[0].numpy()
    return Edges(
        sample=sample,
        neighbour=edges.rows[places].numpy(),
        weight=edges.weight[places].numpy(),
        logits=_together(panel, said, experts=experts, sample=sample),
    )


def _together(
    panel: Panel, said: Sequence[Said], *, experts: Mapping[str, np.ndarray], sample: np.ndarray
) -> dict[str, np.ndarray]:
    """Task -> [N] float64 of the networks and of the experts, who see no neighbours."""
    nobody = np.empty((0, len(sample)))
    return panel.logits(
        {
            task: Opinions(
                networks=np.stack([one[task].double().numpy() for one in said]),
                experts=experts[task][:, sample] if task in experts else nobody,
            )
            for task in panel.bundle.config.tasks
        }
    )
