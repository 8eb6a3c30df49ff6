"""Masked code edges: hide some of a patient's codes, tell them from codes the patient lacks."""

from clinical.batch import ClinicalBatch, CodeSet
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    Objective,
    SizedModel,
    add_parts,
    check_share,
    container_of,
    masked_mean,
    sizes_of,
    uniform,
)

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


@dataclass(frozen=True)
class HiddenEdges:
    """Pairs of samples and codes to judge.

    Attributes:
        code: [B, T + n] int64, hidden codes and then codes that the sample lacks.
        exists: [B, T + n] bool, the sample has the code.
        counts: [B, T + n] bool, the pair is judged.
    """

    code: Tensor
    exists: Tensor
    counts: Tensor


class MaskedEdges(Objective):
    """Hide codes with their descendants in the ontology, predict which existed.

    A hidden code that leaves its special cases visible would be no question, so they go with
    it. The codes a sample lacks are drawn half from the codes of its batch-mates, in which a
    code is as frequent as it is popular (so popularity alone answers little), and half from
    the whole vocabulary. An ancestor of a code that the sample has is not called absent.

    Args:
        model: of whose sizes the decoder is.
        share: of each sample's codes hidden.
        negatives: codes drawn per sample that it lacks.

    Raises:
        ConfigError: no modality `codes`, or a share outside 0 to 1.
    """

    hides: ClassVar[frozenset[str]] = frozenset({"codes"})
    ancestors: Tensor

    def __init__(self, model: SizedModel, *, share: float = 0.2, negatives: int = 16) -> None:
        super().__init__()
        self.n_codes = sizes_of(model, "codes", objective="edges")["codes"]
        self.share = check_share("edges.share", share)
        self.negatives = negatives
        shared = model.embedding_table("codes")
        width = model.width if shared is None else shared.embedding_dim
        self.project = nn.Sequential(nn.LayerNorm(model.width), nn.Linear(model.width, width))
        self.bias = nn.Parameter(torch.zeros(self.n_codes))
        self.own_embedding = nn.Embedding(self.n_codes, width) if shared is None else None
        # In a tuple, so that the encoder's table is not registered as a part of the objective.
        self._table = (shared,)
        none = torch.full((self.n_codes, 0), -1)
        self.register_buffer("ancestors", none, persistent=False)

    def use_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Read the ontology from the codes' statistics, where they have one."""
        self.set_ontology(statistics.get("codes", {}).get("parents", [()] * self.n_codes))

    def set_ontology(self, parents: Sequence[Sequence[int]]) -> None:
        """Tell which codes are special cases of which; before, every code stands for itself.

        Args:
            parents: for every code of the vocabulary the rows of its parents (its further
                ancestors may be among them).
        """
        if len(parents) != self.n_codes:
            raise ValueError(f"parents: {len(parents)} rows for {self.n_codes} codes")
        closed = [sorted(_ancestors(code, parents)) for code in range(self.n_codes)]
        longest = max(map(len, closed), default=0)
        padded = [row + [-1] * (longest - len(row)) for row in closed]
        table = torch.tensor(padded, dtype=torch.int64).view(self.n_codes, longest)
        self.ancestors = table.to(self.ancestors.device)

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, HiddenEdges]:
        """Hide codes and draw others that the sample lacks."""
        codes: CodeSet = container_of(batch, "codes", CodeSet)
        chosen = codes.mask & (uniform(tuple(codes.code.shape), generator, codes.code) < self.share)
        hidden = codes.mask & (chosen | self._descend(codes.code, chosen))
        masked = codes.replace(
            code=codes.code.masked_fill(hidden, 0),
            time_hours=codes.time_hours.masked_fill(hidden, 0.0),
            mask=codes.mask & ~hidden,
        )
        absent, is_absent = self._lacking(codes, generator)
        judged = hidden.any(1, keepdim=True) & is_absent
        edges = HiddenEdges(
            code=torch.cat([codes.code, absent], 1),
            exists=torch.cat([hidden, torch.zeros_like(judged)], 1),
            counts=torch.cat([hidden, judged], 1),
        )
        return batch.replace(codes=masked), edges

    def _descend(self, code: Tensor, chosen: Tensor) -> Tensor:
        """[B, T] bool: the code is a special case of one that was chosen in its sample."""
        table = _owned(code, chosen, self.n_codes)
        above = self.ancestors[code]
        found = table.gather(1, above.clamp_min(0).flatten(1)).view(above.shape)
        return (found & (above >= 0)).any(2)

    def _lacking(self, codes: CodeSet, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes [B, n] drawn for each sample, and which of them it lacks."""
        size, count = len(codes.mask), self.negatives if self.n_codes else 0
        draws = uniform((size, count), generator, codes.code)
        anywhere = (draws * self.n_codes).long().clamp_max(self.n_codes - 1)
        popular = codes.code[codes.mask]
        if len(popular):
            mates = popular[(draws * len(popular)).long().clamp_max(len(popular) - 1)]
            from_mates = torch.arange(count, device=draws.device) < math.ceil(count / 2)
            anywhere = torch.where(from_mates, mates, anywhere)
        above = self.ancestors[codes.code]
        owned = _owned(codes.code, codes.mask, self.n_codes)
        implied = _owned(above.flatten(1), (above >= 0).flatten(1), self.n_codes)
        return anywhere, ~(owned | implied).gather(1, anywhere)

    def loss(self, outputs: ModelOutputs, hidden: HiddenEdges) -> Loss:
        """Binary cross-entropy, existing and lacking codes counting alike."""
        table = self._table[0] or self.own_embedding
        assert table is not None
        patient = self.project(outputs.fused) / math.sqrt(table.embedding_dim)
        logits = torch.einsum("bd,bnd->bn", patient, table(hidden.code)) + self.bias[hidden.code]
        surprise = binary_cross_entropy_with_logits(
            logits, hidden.exists.to(logits.dtype), reduction="none"
        )
        return add_parts(
            {
                "edges/existing": masked_mean(surprise, hidden.counts & hidden.exists),
                "edges/lacking": masked_mean(surprise, hidden.counts & ~hidden.exists),
            }
        )


def _owned(code: Tensor, mask: Tensor, n_codes: int) -> Tensor:
    """[B, C] bool: which codes a sample has, of `code` [B, T] where `mask`."""
    count = torch.zeros(len(code), n_codes, device=code.device)
    return count.scatter_add(1, code.clamp_min(0), mask.to(count.dtype)) > 0


def _ancestors(code: int, parents: Sequence[Sequence[int]]) -> set[int]:
    """Everything above a code; an ontology with a circle in it is walked once."""
    found: set[int] = set()
    waiting = list(parents[code])
    while waiting:
        above = waiting.pop()
        if above not in found and above != code:
            found.add(above)
            waiting.extend(parents[above])
    return found
