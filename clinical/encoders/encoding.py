"""What every encoder gives back, and what every encoder is."""

from clinical.errors import ConfigError

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn


@dataclass(frozen=True)
class Encoding:
    """One modality of a batch, encoded.

    Attributes:
        summary: [B, D], the sample as one vector; finite but meaningless where the modality is
            absent.
        tokens: [B, T, D], its parts (events, columns, notes, images, codes).
        token_mask: [B, T] bool, a part stands here.
        states: the encoder's own grid, what objectives decode from: events and codes [B, T, D],
            static [B, V, D], notes [R, L, D], images [R, H/p, W/p, D] or, of a frozen
            backbone, [R, 1, 1, D]; finite where there is nothing.
        read_linearly: layer of `Encoder.linear_layers` -> [B, F] what it read for the summary;
            0 where the modality is absent.
    """

    summary: Tensor
    tokens: Tensor
    token_mask: Tensor
    states: Tensor
    read_linearly: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size, width = self.summary.shape
        if self.tokens.shape != (size, self.tokens.shape[1], width):
            raise ValueError(f"tokens: {tuple(self.tokens.shape)} is not [{size}, T, {width}]")
        if self.token_mask.shape != self.tokens.shape[:2]:
            wanted = list(self.tokens.shape[:2])
            raise ValueError(f"token_mask: {tuple(self.token_mask.shape)} is not {wanted}")
        if self.states.shape[-1] != width:
            raise ValueError(f"states: the last axis of {tuple(self.states.shape)} is not {width}")


class Encoder(nn.Module):
    """Base of the encoders: `Encoder(sizes, *, own YAML keys)`, `forward(container) -> Encoding`.

    `sizes` comes from the modality: events `variables, summary_variables`; static `columns`;
    notes `vocabulary, max_tokens, pad, phrases, topics, kinds`, and `config` where the architecture
    is that of given weights: the content of their config.json; images `size, patch, views,
    channels`; codes `codes`.

    Attributes:
        width: D of the encodings.
        encoded_width: F of what frozen weights make of each row; None where nothing is frozen.
        is_fetched: its weights are a folder, which the hub can give by name.
        takes_adapters: it has a transformer that can learn by low-rank adapters alone.
        beside_frozen: sizes on which what frozen weights make of a row does not depend.
        only_in_training: own keys that change neither the weights' shapes nor what they say.

    A part of which some weights belong to entries of the modality's vocabulary says so in `along`:
    parameter -> for each axis "vocabulary", or None. The first entries lie along it, one after
    the other, each with `places` of it where that is more than one. So weights can be taken over by
    a network of another vocabulary (`clinical.transfer`). Where their number decides by what
    weights are multiplied, `multiplied` says that by parameter.
    """

    is_fetched: ClassVar[bool] = False
    takes_adapters: ClassVar[bool] = False
    beside_frozen: ClassVar[frozenset[str]] = frozenset()
    only_in_training: ClassVar[frozenset[str]] = frozenset({"dropout"})
    width: int
    encoded_width: int | None = None
    _frozen: tuple[nn.Module, ...] = ()

    @classmethod
    def check(cls, where: str, options: Mapping[str, Any], *, weights: Path | None) -> None:
        """Refuse, before anything is prepared, what cannot be trained here.

        Args:
            where: the modality, for messages.
            options: the encoder's own keys.
            weights: that are given.

        Raises:
            ConfigError: a library or weights are missing, or keys contradict each other.
        """

    def freeze(self, module: nn.Module) -> None:
        """Let a part never learn and never drop out, whatever mode the rest is in."""
        self._frozen = (*self._frozen, module.requires_grad_(False).eval())

    def train(self, mode: bool = True) -> Self:
        """As in torch, but for the frozen parts."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def encode_rows(self, container: Any) -> Tensor:
        """[R, F] what the frozen weights make of each row, however the rest is trained.

        `forward` reads the container's `encoded` in its place where that is given.
        """
        raise NotImplementedError(f"{type(self).__name__} has no frozen part")

    def linear_layers(self) -> Mapping[str, nn.Linear]:
        """Name -> a layer whose output is added to the summary as it is, so that what is known of
        its inputs can be written into it; see `Encoding.read_linearly`."""
        return {}

    def count_from(self, layer: str, usual: Tensor) -> None:
        """Let a layer of `linear_layers` count its inputs from usual ones [F], where that matters
        to what is told of them; what it says stays the same."""

    def use_statistics(self, statistics: Mapping[str, Any]) -> None:
        """Take note of what the modality learned from train, as plain values; most need no more
        than sizes."""

    def load_weights(self, path: Path) -> None:
        """Start from pretrained weights in a local file or folder.

        Raises:
            ConfigError: this encoder has none, or the weights don't fit it.
        """
        raise ConfigError(
            f"weights: {type(self).__name__} learns from scratch, and {path.name} is missing or "
            "of no use to it; remove the key"
        )

    def adapt(self) -> None:
        """Let the transformer learn by low-rank adapters alone from now on.

        Raises:
            ConfigError: there is none that learns, or none beside which adapters can stand.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no adapters")

    def settle(self) -> None:
        """Become what a bundle holds: the network that is built from sizes and keys alone."""


def check_heads(modality: str, width: int, heads: int) -> None:
    """Refuse attention heads that don't divide the width.

    Raises:
        ConfigError: they don't.
    """
    if heads < 1 or width % heads:
        raise ConfigError(
            f"modalities.{modality}: width {width} is no multiple of heads {heads}; change either"
        )
