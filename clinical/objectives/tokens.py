"""Masked language modelling on the notes (Devlin et al., 2019, arXiv:1810.04805)."""

from clinical.batch import ClinicalBatch
from clinical.containers import Tokens
from clinical.errors import ConfigError
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    Objective,
    SizedModel,
    add_parts,
    check_share,
    container_of,
    sizes_of,
    uniform,
)

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear


@dataclass(frozen=True)
class HiddenTokens:
    """Which word pieces are to be named.

    Attributes:
        chosen: [R, L] bool.
        ids: [R, L] int64, the word pieces as written.
    """

    chosen: Tensor
    ids: Tensor


class MaskedTokens(Objective):
    """Hide word pieces, name them.

    Of the chosen ones most become the mask token, some a random word and the rest stay, so that
    the encoder cannot take an unmasked word for granted. Special tokens and padding are never
    chosen. Words are named by the encoder's own embedding table where it has one, from the states
    of the word pieces alone: what counted phrases say, the hidden words among them, is no part of
    these.

    Args:
        model: of whose sizes the decoder is.
        share: of the word pieces chosen.
        random: share of the chosen ones replaced by a random word.
        kept: share of the chosen ones left as they are.

    Raises:
        ConfigError: no modality `notes`, or shares outside 0 to 1.
    """

    hides: ClassVar[frozenset[str]] = frozenset({"notes"})

    def __init__(
        self, model: SizedModel, *, share: float = 0.15, random: float = 0.1, kept: float = 0.1
    ) -> None:
        super().__init__()
        sizes = sizes_of(model, "notes", objective="tokens")
        self.vocabulary, self.mask_id = sizes["vocabulary"], sizes["mask"]
        self.first_word = sizes["special"]
        self.share = check_share("tokens.share", share)
        self.random = check_share("tokens.random", random)
        self.kept = check_share("tokens.kept", kept)
        if random + kept > 1:
            raise ConfigError("pretrain.objectives.tokens: random and kept add to more than 1")
        width = model.encoder_widths["notes"]
        shared = model.embedding_table("notes")
        self.norm = nn.LayerNorm(width)
        self.transform = nn.Linear(width, shared.embedding_dim if shared is not None else width)
        self.bias = nn.Parameter(torch.zeros(self.vocabulary))
        own = None if shared is not None else nn.Embedding(self.vocabulary, width)
        self.own_embedding = own
        # In a tuple, so that the encoder's table is not registered as a part of the objective.
        self._table = (shared,)

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, HiddenTokens]:
        """Choose word pieces and replace most of them."""
        notes: Tokens = container_of(batch, "notes", Tokens)
        shape = tuple(notes.ids.shape)
        word = notes.mask & (notes.ids >= self.first_word)
        chosen = word & (uniform(shape, generator, notes.ids) < self.share)
        fate = uniform(shape, generator, notes.ids)
        n_words = self.vocabulary - self.first_word
        another = (uniform(shape, generator, notes.ids) * n_words).long() + self.first_word
        ids = torch.where(chosen & (fate >= self.kept), self.mask_id, notes.ids)
        is_random = chosen & (fate >= self.kept) & (fate < self.kept + self.random)
        ids = torch.where(is_random, another.clamp_max(self.vocabulary - 1), ids)
        return batch.replace(notes=notes.replace(ids=ids)), HiddenTokens(chosen, notes.ids)

    def loss(self, outputs: ModelOutputs, hidden: HiddenTokens) -> Loss:
        """Cross-entropy of the chosen word pieces; nothing else is decoded."""
        states = outputs.encodings["notes"].states[hidden.chosen]
        table = self._table[0] or self.own_embedding
        assert table is not None
        logits = linear(self.transform(self.norm(states)), table.weight, self.bias)
        surprise = cross_entropy(logits, hidden.ids[hidden.chosen], reduction="sum")
        return add_parts({"tokens/word": surprise / max(len(states), 1)})
