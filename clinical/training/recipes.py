"""How deep fine-tuning reaches: which parts of a network learn from labels, when and how fast.

Few labels can spoil what many unlabelled samples taught, so a recipe may leave the deep parts of a
network as they are, wait before it lets them learn, or let them learn slowly.
"""

from clinical.config import ModalityConfig
from clinical.encoders import ENCODERS, lora
from clinical.encoders.encoding import Encoder
from clinical.errors import ConfigError
from clinical.model import ClinicalModel
from clinical.training.seeds import seed_globals

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

ULMFIT_FALLOFF = 2.6
"""Of the learning rate, from a layer to the one below it (Howard & Ruder, 2018)."""

Opening = tuple[float, float, float]
"""Of the heads, the trunk and the encoders."""
NEVER = math.inf


@dataclass(frozen=True)
class Recipe:
    """What learns when, by depth.

    Attributes:
        opens: the epoch, from 0, in which each of `parts_of` begins to learn.
        falloff: what the learning rate of a part is divided by for the next deeper one.
        by_adapters: transformers that take adapters learn by these alone.
    """

    opens: Opening = (0, 0, 0)
    falloff: float = 1.0
    by_adapters: bool = False

    def patience(self, epochs: int | None) -> int | None:
        """Epochs to wait for a better one, those besides in which a part is yet to open."""
        last = max((opens for opens in self.opens if opens < NEVER), default=0)
        return None if epochs is None else epochs + int(last)


RECIPES: Mapping[str, Recipe] = {
    "full": Recipe(),
    "linear_probe": Recipe(opens=(NEVER, NEVER, NEVER)),
    "frozen": Recipe(opens=(0, NEVER, NEVER)),
    "gradual": Recipe(opens=(0, 1, 2)),
    "discriminative": Recipe(falloff=ULMFIT_FALLOFF),
    "lora": Recipe(by_adapters=True),
}
"""`finetune.recipe` -> what it lets learn. Gradual unfreezing and discriminative rates are those of
ULMFiT (Howard & Ruder, 2018, arXiv:1801.06146), with parts of the network for its layers."""


def parts_of(model: ClinicalModel) -> tuple[Sequence[nn.Module], ...]:
    """A network's modules by depth: what answers, what brings modalities and patients together,
    and what reads each modality."""
    links = [] if model.link_head is None else [model.link_head]
    return (
        [model.heads, model.readout, *links],
        [model.message_passing, model.fusion, model.project, model.reference_memory],
        [model.encoders],
    )


def check_recipe(name: str, modalities: Mapping[str, ModalityConfig]) -> None:
    """Refuse, before anything is prepared, a recipe that the modalities leave nothing to do for.

    Raises:
        ConfigError: it adapts a transformer, and there is none that learns, or no peft.
    """
    if not RECIPES[name].by_adapters:
        return
    where = f"finetune.recipe: {name}"
    taking = {k: own for k, own in modalities.items() if ENCODERS[own.encoder].takes_adapters}
    if not taking:
        raise ConfigError(
            f"{where} adapts a BERT, and no modality has one; add notes with encoder: bert, or "
            "choose another recipe"
        )
    for modality, own in taking.items():
        if own.options.get("train") == "frozen":
            raise ConfigError(
                f"{where} adapts the BERT of modalities.{modality}, which is frozen; set its "
                "train: full, or choose another recipe"
            )
    lora.check_installed("finetune.recipe")


def add_adapters(model: ClinicalModel, recipe: Recipe, *, seed: int) -> None:
    """Give a network the adapters by which it is to learn, if any; it says what it said before.

    Raises:
        ConfigError: none can stand in it.
    """
    if not recipe.by_adapters:
        return
    seed_globals(seed, "adapters")
    for name, encoder in model.encoders.items():
        if cast(Encoder, encoder).takes_adapters:
            try:
                cast(Encoder, encoder).adapt()
            except ConfigError as error:
                raise ConfigError(f"modalities.{name}: {error}; choose another recipe") from error


class Freezing:
    """The parts of one network, closed and opened as a recipe has it.

    A closed part gets no gradient and behaves as in evaluation: nothing drops out inside of it, and
    no running statistic moves. What is dropped between parts, a modality or a relation's
    neighbours, still is: the readout hears that it is missing, and has to know what to make of it.

    Only what learned before can learn: weights that the configuration froze stay frozen.
    """

    def __init__(self, model: ClinicalModel, recipe: Recipe) -> None:
        self._model = model
        self._parts = [
            (modules, [p for m in modules for p in m.parameters() if p.requires_grad], opens)
            for modules, opens in zip(parts_of(model), recipe.opens, strict=True)
        ]

    def begin(self) -> None:
        """Close for good what never learns, so that no optimizer and no average holds it."""
        self._let_learn([opens < NEVER for _, _, opens in self._parts])

    def turn_to(self, epoch: int) -> None:
        """Let those parts learn that do so in an epoch, counted from 0."""
        self._let_learn([opens <= epoch for _, _, opens in self._parts])

    def end(self) -> None:
        """Leave the network as it came, since what can learn tells frozen weights from others."""
        self._let_learn([True] * len(self._parts))

    def _let_learn(self, learns: Sequence[bool]) -> None:
        for (modules, parameters, _), does in zip(self._parts, learns, strict=True):
            for parameter in parameters:
                parameter.requires_grad_(does)
            for module in modules:
                module.train(does and self._model.training)
