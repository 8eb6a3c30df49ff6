"""What a self-supervised objective is, and what it needs from a model."""

from clinical.batch import ClinicalBatch, Neighbours
from clinical.containers import Container
from clinical.encoders.encoding import Encoding
from clinical.errors import ConfigError
from clinical.graph import EmbeddingMemory

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn


class SizedModel(Protocol):
    """What an objective reads of a model to build its decoder."""

    @property
    def width(self) -> int:
        """D of the trunk."""

    @property
    def sizes(self) -> Mapping[str, Mapping[str, Any]]:
        """Modality -> sizes of its vocabulary, grid and so on."""

    @property
    def frozen(self) -> Collection[str]:
        """Modalities of which frozen weights read every row."""

    @property
    def encoder_widths(self) -> Mapping[str, int]:
        """Modality -> D of its encoder's states."""

    @property
    def relation_kinds(self) -> Mapping[str, str]:
        """Relation -> its kind."""

    def embedding_table(self, modality: str) -> nn.Embedding | None:
        """The table from which the encoder reads words, if it has one."""


class ModelOutputs(Protocol):
    """What an objective reads of a forward pass."""

    @property
    def encodings(self) -> Mapping[str, Encoding]:
        """Modality -> encoding."""

    @property
    def fused(self) -> Tensor:
        """[B, D] the trunk before message passing."""

    @property
    def links(self) -> Tensor | None:
        """[B, V] log odds that the sample has each code; None without the modality."""

    @property
    def aspects(self) -> Mapping[str, Tensor]:
        """Task or relation -> [B, D]."""

    @property
    def memory(self) -> EmbeddingMemory:
        """What the neighbours were read from."""


@dataclass(frozen=True)
class ReferenceEdges:
    """Who is who in a store, and who is linked to the references.

    Attributes:
        subject: [n] int64, a number for the subject of each sample of the store.
        rows: [N] int64, the references' rows of the store, in the memory's order.
        neighbours: relation -> edges into the references, [N, K].
    """

    subject: Tensor
    rows: Tensor
    neighbours: Mapping[str, Neighbours]


@dataclass(frozen=True)
class Loss:
    """One objective's loss over a batch.

    Attributes:
        total: [] to be minimised; 0 with a harmless gradient where nothing was hidden.
        parts: "objective/part" -> [] without a gradient, for the curves.
    """

    total: Tensor
    parts: Mapping[str, Tensor]


def add_parts(parts: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> Loss:
    """The weighted sum of an objective's parts; a part without a weight counts once."""
    weights = weights or {}
    total = torch.stack([weights.get(name, 1.0) * part for name, part in parts.items()]).sum()
    return Loss(total, {name: part.detach() for name, part in parts.items()})


class Objective(nn.Module):
    """Hide something, then predict it from what the model made of the rest.

    `__init__(model, *, own YAML keys)` reads the model's sizes and keeps no part of it as a
    submodule. Masks are drawn from the generator alone, on the CPU, so that a step can be
    repeated anywhere.

    Attributes:
        own_pass: is asked about whole samples, in a pass beside the joint one which objectives like
            it share; so it may hide the clock (`timeless`) or withhold, but no content.
        travels: what it learned is asked again after pretraining, so the bundle keeps it.
        hides: modalities in which it hides something.
    """

    own_pass: ClassVar[bool] = False
    travels: ClassVar[bool] = False
    hides: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def check(
        cls, options: Mapping[str, Any], *, modalities: Sequence[str], frozen: Collection[str]
    ) -> None:
        """Refuse, before anything is prepared, what has nothing to learn from.

        Args:
            options: its own keys.
            modalities: that are configured.
            frozen: those of which frozen weights read every row.

        Raises:
            ConfigError: a modality is missing or frozen.
        """

    def use_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Take note of what the data side learned from train, as modality -> plain values.

        Most objectives need no more than sizes; training calls it once, before the first step.
        """

    def use_references(self, references: ReferenceEdges) -> None:
        """Take note of the references' own edges; called once as well."""

    def hide(self, batch: ClinicalBatch, generator: torch.Generator) -> tuple[ClinicalBatch, Any]:
        """A batch in which something is hidden, and what `loss` needs to know about it."""
        raise NotImplementedError

    def loss(self, outputs: ModelOutputs, hidden: Any) -> Loss:
        """How badly the hidden is predicted from the outputs for the batch of `hide`."""
        raise NotImplementedError


def sizes_of(model: SizedModel, modality: str, *, objective: str) -> Mapping[str, Any]:
    """The sizes of the modality that an objective is about.

    Raises:
        ConfigError: the modality is not configured, or its encoder is frozen.
    """
    check_learns(modality, objective=objective, modalities=model.sizes, frozen=model.frozen)
    return model.sizes[modality]


def check_learns(
    modality: str, *, objective: str, modalities: Collection[str], frozen: Collection[str]
) -> None:
    """Refuse an objective about a modality that is missing, or frozen.

    Raises:
        ConfigError: it is.
    """
    if modality in frozen:
        raise ConfigError(
            f"pretrain.objectives.{objective}: the encoder of {modality} is frozen and learns "
            "nothing from what is hidden; remove the objective, or train it otherwise"
        )
    if modality not in modalities:
        raise ConfigError(
            f"pretrain.objectives.{objective}: there is no modality {modality} to learn from; "
            f"configure it under modalities or remove the objective"
        )


def check_share(name: str, value: float) -> float:
    """Refuse a share outside 0 to 1."""
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"pretrain.objectives.{name}: {value} should be between 0 and 1")
    return value


def container_of(batch: ClinicalBatch, modality: str, kind: type[Container]) -> Any:
    """The container of a modality, of the kind that the caller is written for."""
    container = batch.inputs[modality]
    assert isinstance(container, kind), f"{modality} is a {type(container).__name__}"
    return container


def uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform draws from a CPU generator, on the device of `like`."""
    return torch.rand(shape, generator=generator).to(like.device)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean where `mask`; 0, with a harmless gradient, where it is nowhere true."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)
