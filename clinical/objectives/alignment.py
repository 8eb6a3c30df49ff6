"""One space for several modalities: what belongs to one sample is close (as in CLIP)."""

from clinical.batch import ClinicalBatch
from clinical.config_file import likely
from clinical.errors import ConfigError
from clinical.objectives.contrast import (
    LEAST_GUESSING,
    Contrastive,
    Scale,
    candidates,
    guessing,
    surprise,
)
from clinical.objectives.objective import Loss, ModelOutputs, SizedModel, add_parts

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Whole:
    """Who has what in a batch.

    Attributes:
        present: modality -> [B] bool.
        subject: [B] int64.
    """

    present: Mapping[str, Tensor]
    subject: Tensor


class Alignment(Contrastive):
    """Find a sample's one modality by its other, among those of other subjects (both ways).

    Symmetric InfoNCE (Radford et al., 2021, arXiv:2103.00020) over the encoders' own summaries,
    before any fusion. Each pair of modalities has a temperature of its own: a pair that says
    little about each other learns to say it softly, and so weighs little in what is asked later.
    The loss is in units of guessing, and the mean over the pairs that two subjects of the batch or
    more have; without any it is zero.

    It is no part of the joint pass: where other objectives hide words and patches, it would learn
    to match remnants, and zero-shot is asked about whole notes and images. It hides only the clock
    (`timeless`): a note and a film of the same hour would be matched by it, and neither be read.
    What is withheld from the fusion is encoded all the same, and aligned.

    The projections are asked again after pretraining (`Predictor.zero_shot`), so they travel.

    Args:
        model: of whose sizes the projections are.
        pairs: modalities to align, two by two; null aligns each with each.
        width: of the shared space.

    Raises:
        ConfigError: fewer than two modalities, or a pair that is none.
    """

    own_pass: ClassVar[bool] = True
    travels: ClassVar[bool] = True

    def __init__(
        self, model: SizedModel, *, pairs: list[list[str]] | None = None, width: int = 64
    ) -> None:
        super().__init__()
        if width < 1:
            raise ConfigError(f"pretrain.objectives.alignment.width: {width} should be at least 1")
        self.pairs = _checked(pairs, tuple(model.sizes))
        names = dict.fromkeys(name for pair in self.pairs for name in pair)
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.LayerNorm(model.encoder_widths[name]),
                    nn.Linear(model.encoder_widths[name], width, bias=False),
                )
                for name in names
            }
        )
        self.scales = nn.ModuleDict({_name(pair): Scale() for pair in self.pairs})

    @classmethod
    def check(
        cls, options: Mapping[str, Any], *, modalities: Sequence[str], frozen: Collection[str]
    ) -> None:
        """Refuse pairs that are none, and fewer than two modalities."""
        _checked(options.get("pairs"), modalities)

    def partners(self, modality: str) -> tuple[str, ...]:
        """The modalities that it is aligned with."""
        return tuple(
            next(other for other in pair if other != modality)
            for pair in self.pairs
            if modality in pair
        )

    def scale(self, first: str, second: str) -> Tensor:
        """[] by which cosines between two modalities are multiplied to be log odds."""
        (pair,) = (pair for pair in self.pairs if {first, second} == set(pair))
        scale: Tensor = cast(Scale, self.scales[_name(pair)])()
        return scale

    def place(self, modality: str, summary: Tensor) -> Tensor:
        """[B, W] of length one: where an encoder's summaries [B, D_m] lie in the shared space."""
        return normalize(self.project[modality](summary).float(), dim=1)

    def hide(self, batch: ClinicalBatch, generator: torch.Generator) -> tuple[ClinicalBatch, Whole]:
        """When all was recorded; take note of who has what."""
        present = {name: batch.inputs[name].present for name in self.project}
        return batch.timeless(), Whole(present, self.subjects(batch))

    def loss(self, outputs: ModelOutputs, hidden: Whole) -> Loss:
        """Mean over the pairs, each in units of guessing."""
        judged = {pair: self._judged(pair, outputs, hidden) for pair in self.pairs}
        n_counting = torch.stack([cost > 0 for _, cost in judged.values()]).sum().clamp_min(1)
        parts = {
            f"alignment/{_name(pair)}": nats / cost.clamp_min(LEAST_GUESSING) / n_counting
            for pair, (nats, cost) in judged.items()
        }
        return add_parts(parts)

    def _judged(
        self, pair: tuple[str, str], outputs: ModelOutputs, whole: Whole
    ) -> tuple[Tensor, Tensor]:
        """[] the surprise, both ways, and [] what guessing costs."""
        both = torch.nonzero(whole.present[pair[0]] & whole.present[pair[1]])[:, 0]
        first, second = (self.project[name](outputs.encodings[name].summary[both]) for name in pair)
        own = torch.arange(len(both), device=both.device)
        fits, scale = candidates(whole.subject[both], own), self.scale(*pair)
        nats = surprise(first, second, own, fits, scale).sum()
        nats = nats + surprise(second, first, own, fits, scale).sum()
        return nats, 2 * guessing(fits)


def _name(pair: tuple[str, str]) -> str:
    return "+".join(pair)


def _checked(pairs: Sequence[Sequence[str]] | None, known: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs, each in the order of the modalities.

    Raises:
        ConfigError: naming the one that is wrong.
    """
    where = "pretrain.objectives.alignment"
    if len(known) < 2:
        raise ConfigError(
            f"{where}: needs two modalities to align, and there is only {', '.join(known)}; "
            "configure another under modalities or remove the objective"
        )
    if pairs is None:
        return list(combinations(known, 2))
    found: list[tuple[str, str]] = []
    for pair in pairs:
        unknown = [name for name in pair if name not in known]
        if unknown:
            guess = likely(unknown[0], known)
            raise ConfigError(f"{where}.pairs: there is no modality {unknown[0]}{guess}")
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ConfigError(f"{where}.pairs: {list(pair)} should be two different modalities")
        first, second = sorted(pair, key=known.index)
        if (first, second) in found:
            raise ConfigError(f"{where}.pairs: {first} and {second} are given twice")
        found.append((first, second))
    if not found:
        raise ConfigError(f"{where}.pairs: is empty; name two modalities, or leave it out")
    return found
