"""Self-supervised tasks: what the model learns from patients without labels."""

from clinical.batch import ClinicalBatch
from clinical.containers import CodeSet
from clinical.objectives.blocks import Forecast, Presence
from clinical.objectives.edges import MaskedEdges
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    Objective,
    ReferenceEdges,
    SizedModel,
)
from clinical.objectives.patches import MaskedPatches
from clinical.objectives.shared_codes import without_codes
from clinical.objectives.tokens import MaskedTokens
from clinical.objectives.values import Values

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

__all__ = [
    "OBJECTIVES",
    "Loss",
    "ModelOutputs",
    "Objective",
    "ReferenceEdges",
    "SizedModel",
    "drop_edges_by_hidden_codes",
    "drop_fed_relations",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "forecast": Forecast,
    "presence": Presence,
    "values": Values,
    "tokens": MaskedTokens,
    "patches": MaskedPatches,
    "edges": MaskedEdges,
}
"""Applied in this order: what takes events away comes before what hides their values."""


def drop_fed_relations(
    batch: ClinicalBatch, hidden: Collection[str], feeds: Mapping[str, Collection[str]]
) -> ClinicalBatch:
    """A batch without the edges that were chosen with what is now hidden.

    Edges that name the codes they exist through stay where only codes are hidden:
    `drop_edges_by_hidden_codes` takes what existed through those.

    Args:
        batch: after `hide`.
        hidden: modalities in which something was hidden.
        feeds: relation -> modalities from which its edges are computed.
    """
    for relation, modalities in feeds.items():
        fed = set(hidden) & set(modalities)
        if relation in batch.neighbours and batch.neighbours[relation].codes is not None:
            fed -= {"codes"}
        if fed:
            batch = batch.without_relation(relation)
    return batch


def drop_edges_by_hidden_codes(
    batch: ClinicalBatch, before: ClinicalBatch, key_codes: Mapping[str, Tensor]
) -> ClinicalBatch:
    """A batch without what exists through a code which is now hidden.

    Edges that name their codes are those of a sample that never had the hidden ones
    (`without_codes`); of other relations, a sample loses all edges if the hidden code may be its
    key.

    Args:
        batch: after `hide`.
        before: the same samples, nothing hidden.
        key_codes: relation -> rows of the code vocabulary that its key may be.
    """
    codes, whole = batch.inputs.get("codes"), before.inputs.get("codes")
    if not isinstance(codes, CodeSet) or not isinstance(whole, CodeSet):
        return batch
    hidden = whole.mask & ~codes.mask
    # Of the lists as they were: one that lost an edge to another objective still was a full one.
    neighbours = {
        name: without_codes(before.neighbours[name], whole.code, hidden).keep(edges.rows >= 0)
        for name, edges in batch.neighbours.items()
    }
    for relation, rows in key_codes.items():
        is_key = torch.isin(whole.code, rows.to(whole.code.device))
        neighbours[relation] = neighbours[relation].drop((hidden & is_key).any(1))
    return replace(batch, neighbours=neighbours)
