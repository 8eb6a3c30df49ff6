"""Self-supervised tasks: what the model learns from patients without labels."""

from clinical.batch import ClinicalBatch
from clinical.config import RunConfig, pick
from clinical.containers import CodeSet
from clinical.objectives.alignment import Alignment
from clinical.objectives.blocks import Forecast, Presence
from clinical.objectives.edges import MaskedEdges
from clinical.objectives.masked_modality import MaskedModality
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    Objective,
    ReferenceEdges,
    SizedModel,
)
from clinical.objectives.patches import MaskedPatches
from clinical.objectives.shared_codes import without_codes
from clinical.objectives.static import MaskedStatic
from clinical.objectives.tokens import MaskedTokens
from clinical.objectives.values import Values
from clinical.sections import ObjectiveConfig

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

__all__ = [
    "OBJECTIVES",
    "Alignment",
    "Loss",
    "ModelOutputs",
    "Objective",
    "ReferenceEdges",
    "SizedModel",
    "build_objectives",
    "drop_edges_by_hidden_codes",
    "drop_fed_relations",
    "travelling",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "forecast": Forecast,
    "presence": Presence,
    "values": Values,
    "tokens": MaskedTokens,
    "patches": MaskedPatches,
    "static": MaskedStatic,
    "edges": MaskedEdges,
    "masked_modality": MaskedModality,
    "alignment": Alignment,
}
"""Applied in this order: what takes events away comes before what hides their values."""


def build_objectives(
    settings: Mapping[str, ObjectiveConfig], model: SizedModel
) -> dict[str, Objective]:
    """Those named, in the order of the menu.

    Raises:
        ConfigError: a key that one refuses, or a modality that it lacks.
    """
    return {
        name: objective(model, **pick(settings[name].options, objective))
        for name, objective in OBJECTIVES.items()
        if name in settings
    }


def travelling(config: RunConfig) -> dict[str, ObjectiveConfig]:
    """Those that the run learns and that are asked again after pretraining."""
    if config.pretrain is None or not config.is_pretrained:
        return {}
    named = config.pretrain.objectives.items()
    return {name: own for name, own in named if OBJECTIVES[name].travels and own.weight > 0}


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
