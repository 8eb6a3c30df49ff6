"""Masked edges of the graph: between patients and codes, and between patients."""

from clinical.batch import ClinicalBatch
from clinical.errors import ConfigError
from clinical.objectives.code_edges import HiddenCodes, MaskedCodes
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    Objective,
    ReferenceEdges,
    SizedModel,
    add_parts,
    check_share,
    sizes_of,
)
from clinical.objectives.patient_edges import HiddenPatients, MaskedPatients

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch


@dataclass(frozen=True)
class HiddenEdges:
    """What to judge.

    Attributes:
        codes: None without the modality.
        patients: relation -> its hidden edges.
    """

    codes: HiddenCodes | None
    patients: Mapping[str, HiddenPatients]


class MaskedEdges(Objective):
    """Hide edges that lead to a sample, predict which existed.

    Those to its codes, where there is the modality `codes` (`MaskedCodes`), and those to patients
    in each relation (`MaskedPatients`). A patient's codes are its edges to them, so that this is
    the objective of hidden codes as well; there is no other.

    Args:
        model: of whose sizes the decoders are.
        share: of each sample's codes, and of the pairs of subjects, that is hidden.
        candidates: references among which the neighbour of a hidden edge is to be found.

    Raises:
        ConfigError: neither codes nor a relation, a share outside 0 to 1, or fewer than two
            candidates.
    """

    hides: ClassVar[frozenset[str]] = frozenset({"codes"})

    def __init__(self, model: SizedModel, *, share: float = 0.2, candidates: int = 16) -> None:
        super().__init__()
        share = check_share("edges.share", share)
        if candidates < 2:
            raise ConfigError(
                f"pretrain.objectives.edges.candidates: {candidates} should be at least 2"
            )
        self.patients = MaskedPatients(model, share=share, candidates=candidates)
        self.codes: MaskedCodes | None = None
        if "codes" in model.sizes or not model.relation_kinds:
            self.codes = MaskedCodes(
                sizes_of(model, "codes", objective="edges")["codes"], share=share
            )

    def use_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        if self.codes is not None:
            self.codes.use_statistics(statistics["codes"])

    def use_references(self, references: ReferenceEdges) -> None:
        self.patients.use_references(references)

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, HiddenEdges]:
        """Hide codes, then patients."""
        codes = None
        if self.codes is not None:
            batch, codes = self.codes.hide(batch, generator)
        batch, patients = self.patients.hide(batch, generator)
        return batch, HiddenEdges(codes, patients)

    def loss(self, outputs: ModelOutputs, hidden: HiddenEdges) -> Loss:
        """The sum over the kinds of edges, each in units of knowing nothing of the sample."""
        parts = self.patients.parts(outputs, hidden.patients)
        if self.codes is not None and hidden.codes is not None:
            parts = self.codes.parts(outputs, hidden.codes) | parts
        return add_parts({f"edges/{name}": part for name, part in parts.items()})
