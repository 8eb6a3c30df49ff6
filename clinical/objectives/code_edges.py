"""Masked code edges: hide some of a patient's codes, tell them from codes the patient lacks."""

from clinical.batch import ClinicalBatch
from clinical.containers import CodeSet
from clinical.encoders.ontology import Ontology, owned
from clinical.graph.links import popularity
from clinical.objectives.objective import ModelOutputs, container_of, uniform

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


@dataclass(frozen=True)
class HiddenCodes:
    """Pairs of samples and codes to judge.

    Attributes:
        exists: [B, V] bool, the sample has the code, and it is hidden.
        lacking: [B, V] bool, the sample lacks the code.
    """

    exists: Tensor
    lacking: Tensor


class MaskedCodes(nn.Module):
    """Hide codes with their descendants in the ontology, predict which existed.

    A hidden code that leaves its special cases visible would be no question, so they go with
    it. Every code that a sample lacks is judged beside those hidden from it: the siblings of its
    codes, the common ones and those of patients like it are among them, and no choice of a few
    has to be corrected for. An ancestor of a code that the sample has is not called absent, nor
    is anything judged of a sample without codes.

    The model's log odds are of having a code. Of the codes which are not visible a sample has one
    with the odds of it being hidden, divided by the share that is hidden; so that share is added
    here, and what a patient likely lacks is read off the model as it is. The loss is in units of
    what the codes' popularity alone would have, so 1 at the start.

    Args:
        n_codes: V.
        share: of each sample's codes hidden.
    """

    popularity: Tensor
    is_code: Tensor

    def __init__(self, n_codes: int, *, share: float) -> None:
        super().__init__()
        self.n_codes = n_codes
        self.share = share
        self.ontology = Ontology(self.n_codes)
        known = torch.ones(self.n_codes, dtype=torch.bool)
        self.register_buffer("is_code", known, persistent=False)
        self.register_buffer("popularity", torch.zeros(self.n_codes), persistent=False)

    def use_statistics(self, codes: Mapping[str, Any]) -> None:
        """Read the ontology, how common each code is, and which nobody is asked about."""
        device = self.popularity.device
        self.ontology.set_ancestors(codes["parents"])
        self.popularity = popularity(codes).to(device)
        self.is_code = (torch.tensor(codes["subjects"]) > 0).to(device)

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, HiddenCodes]:
        """Hide codes."""
        codes: CodeSet = container_of(batch, "codes", CodeSet)
        chosen = codes.mask & (uniform(tuple(codes.code.shape), generator, codes.code) < self.share)
        below = self.ontology.below(owned(codes.code, chosen, self.n_codes))
        hidden = codes.mask & (chosen | below.gather(1, codes.code))
        masked = codes.replace(
            code=codes.code.masked_fill(hidden, 0),
            time_hours=codes.time_hours.masked_fill(hidden, 0.0),
            mask=codes.mask & ~hidden,
        )
        has = owned(codes.code, codes.mask, self.n_codes)
        asked = self.is_code & codes.present[:, None] & (self.share > 0)
        edges = HiddenCodes(
            exists=asked & owned(codes.code, hidden, self.n_codes),
            lacking=asked & ~(has | self.ontology.above(has)),
        )
        return batch.replace(codes=masked), edges

    def parts(self, outputs: ModelOutputs, hidden: HiddenCodes) -> dict[str, Tensor]:
        """Binary cross-entropy over all pairs judged, of those that exist and of the others."""
        assert outputs.links is not None
        surprise = self._surprise(outputs.links, hidden)
        expected = self._surprise(self.popularity.expand_as(outputs.links), hidden)
        asked = hidden.exists | hidden.lacking
        scale = torch.where(asked, expected, 0.0).sum().clamp_min(1e-6)
        return {
            "existing": torch.where(hidden.exists, surprise, 0.0).sum() / scale,
            "lacking": torch.where(hidden.lacking, surprise, 0.0).sum() / scale,
        }

    def _surprise(self, links: Tensor, hidden: HiddenCodes) -> Tensor:
        """[B, V] nats, of log odds of having a code."""
        of_hiding = links + math.log(self.share or 1.0)
        return binary_cross_entropy_with_logits(
            of_hiding, hidden.exists.to(links.dtype), reduction="none"
        )
