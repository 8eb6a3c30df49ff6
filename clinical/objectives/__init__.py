"""Self-supervised tasks: what the model learns from patients without labels."""

from clinical.batch import ClinicalBatch
from clinical.objectives.edges import MaskedEdges
from clinical.objectives.objective import Loss, ModelOutputs, Objective, SizedModel
from clinical.objectives.patches import MaskedPatches
from clinical.objectives.tokens import MaskedTokens
from clinical.objectives.values import Values

from collections.abc import Collection, Mapping

__all__ = [
    "OBJECTIVES",
    "Loss",
    "ModelOutputs",
    "Objective",
    "SizedModel",
    "drop_fed_relations",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "values": Values,
    "tokens": MaskedTokens,
    "patches": MaskedPatches,
    "edges": MaskedEdges,
}


def drop_fed_relations(
    batch: ClinicalBatch, hidden: Collection[str], feeds: Mapping[str, Collection[str]]
) -> ClinicalBatch:
    """A batch without the edges that were chosen with what is now hidden.

    Args:
        batch: after `hide`.
        hidden: modalities in which something was hidden.
        feeds: relation -> modalities from which its edges are computed.
    """
    for relation, modalities in feeds.items():
        if not set(hidden).isdisjoint(modalities):
            batch = batch.without_relation(relation)
    return batch
