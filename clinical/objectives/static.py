"""Masked static data: hide age, sex and other facts, predict them from the rest of the patient."""

from clinical.batch import ClinicalBatch
from clinical.containers import Vector
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    Objective,
    SizedModel,
    add_parts,
    check_learns,
    check_share,
    container_of,
    masked_mean,
    sizes_of,
    uniform,
)
from clinical.objectives.values import position_decoder, position_distance

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class HiddenFacts:
    """What was hidden, and what was known.

    Attributes:
        column: [B, V] bool, hidden from the model.
        value: [B, V] position of each number.
    """

    column: Tensor
    value: Tensor


class MaskedStatic(Objective):
    """Hide facts, predict them from the fused vector: numbers as positions, categories by name.

    A hidden column is one that the sample says nothing about, the state that the encoder knows
    missing facts by. Categories whose codes begin alike, as `GENDER//F` and `GENDER//M`, answer one
    question: they are hidden together, or what is left would tell, and the one that the sample has
    is to be found among them. A category without others like it is never hidden: there is no code
    for its opposite, so that nothing says who lacks it.

    Both losses are in units of knowing nothing, so about 1 at the start.

    Args:
        model: of whose sizes the decoders are.
        share: of each sample's facts that is hidden.

    Raises:
        ConfigError: no modality `static`, or a share outside 0 to 1.
    """

    hides: ClassVar[frozenset[str]] = frozenset({"static"})
    question: Tensor
    is_number: Tensor

    def __init__(self, model: SizedModel, *, share: float = 0.3) -> None:
        super().__init__()
        self.n_columns = sizes_of(model, "static", objective="static")["columns"]
        self.share = check_share("static.share", share)
        self.number = position_decoder(model.width, self.n_columns)
        self.category = nn.Linear(model.width, self.n_columns)
        # Until `use_statistics` every column counts as a number.
        self.register_buffer("question", torch.arange(self.n_columns), persistent=False)
        numbers = torch.ones(self.n_columns, dtype=torch.bool)
        self.register_buffer("is_number", numbers, persistent=False)

    @classmethod
    def check(
        cls, options: Mapping[str, Any], *, modalities: Sequence[str], frozen: Collection[str]
    ) -> None:
        """Refuse static data that are not configured."""
        check_learns("static", objective="static", modalities=modalities, frozen=frozen)

    def use_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Read which columns are numbers, and which categories answer one question."""
        learned = statistics["static"]
        device = self.question.device
        self.is_number = torch.tensor(learned["is_number"], dtype=torch.bool, device=device)
        names = [
            (code,) if is_number else code.partition("//")[:2]
            for code, is_number in zip(learned["columns"], learned["is_number"], strict=True)
        ]
        places = {name: place for place, name in enumerate(dict.fromkeys(names))}
        alike = Counter(names)
        # A number's name has no mark after it, so that no category shares it.
        asked = [n for n in names if len(n) == 1 or alike[n] > 1]
        question = [places[name] if name in asked else -1 for name in names]
        self.question = torch.tensor(question, dtype=torch.int64, device=device)

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, HiddenFacts]:
        """Hide a share of the questions' columns."""
        static: Vector = container_of(batch, "static", Vector)
        draws = uniform(tuple(static.value.shape), generator, static.value)
        chosen = (draws[:, self.question.clamp_min(0)] < self.share) & (self.question >= 0)
        hidden = static.observed & chosen
        masked = static.replace(observed=static.observed & ~hidden)
        return batch.replace(static=masked), HiddenFacts(hidden, static.value)

    def loss(self, outputs: ModelOutputs, hidden: HiddenFacts) -> Loss:
        """Positions of hidden numbers, and names of hidden categories."""
        distance = position_distance(self.number(outputs.fused), hidden.value)
        surprise = self._surprise(self.category(outputs.fused), hidden.column & ~self.is_number)
        parts = {
            "static/number": masked_mean(distance, hidden.column & self.is_number),
            "static/category": surprise,
        }
        return add_parts(parts)

    def _surprise(self, logits: Tensor, hidden: Tensor) -> Tensor:
        """[] cross-entropy of the hidden categories [B, V] of each question, in units of guessing.

        Where a sample has several of one question, naming any of them is right.
        """
        sample, column = torch.nonzero(hidden, as_tuple=True)
        pairs = torch.stack([sample, self.question[column]]).unique(dim=1)
        of_question = self.question == pairs[1][:, None]
        right = hidden[pairs[0]] & of_question
        # In single precision: a difference of two sums, small where the answer is known.
        chances = logits[pairs[0]].float()
        nats = chances.masked_fill(~of_question, -torch.inf).logsumexp(1)
        nats = nats - chances.masked_fill(~right, -torch.inf).logsumexp(1)
        guessing = of_question.sum(1).log() - right.sum(1).log()
        found: Tensor = nats.sum() / guessing.sum().clamp_min(1e-6)
        return found
