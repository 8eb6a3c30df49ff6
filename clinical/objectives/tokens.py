"""Masked language modelling on the notes (Devlin et al., 2019, arXiv:1810.04805)."""

from clinical.batch import ClinicalBatch
from clinical.containers import Tokens
from clinical.errors import ConfigError
from clinical.modalities.tokenizer import continues, parse
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    Objective,
    SizedModel,
    add_parts,
    check_learns,
    check_share,
    container_of,
    sizes_of,
    uniform,
)

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
    """Hide words, name their pieces.

    The pieces of a word are hidden together (as in BERT's later weights), since one would give
    away the others. Of the chosen words most become the mask token, some become random pieces
    and the rest stay, so that the encoder cannot take an unmasked word for granted. Special
    tokens and padding are never chosen. Pieces are named by the encoder's own embedding table
    where it has one, from the states of the word pieces alone: what counted phrases say, the
    hidden words among them, is no part of these.

    Args:
        model: of whose sizes the decoder is.
        share: of the words chosen, and with it of their pieces.
        random: share of the chosen ones replaced by random pieces.
        kept: share of the chosen ones left as they are.

    Raises:
        ConfigError: no modality `notes`, or a frozen one, or shares outside 0 to 1.
    """

    hides: ClassVar[frozenset[str]] = frozenset({"notes"})
    is_text: Tensor
    continues: Tensor
    is_mark: Tensor
    words: Tensor

    def __init__(
        self, model: SizedModel, *, share: float = 0.15, random: float = 0.1, kept: float = 0.1
    ) -> None:
        super().__init__()
        sizes = sizes_of(model, "notes", objective="tokens")
        self.vocabulary, self.mask_id = sizes["vocabulary"], sizes["mask"]
        self.share = check_share("tokens.share", share)
        self.random = check_share("tokens.random", random)
        self.kept = check_share("tokens.kept", kept)
        if random + kept > 1:
            raise ConfigError("pretrain.objectives.tokens: random and kept add to more than 1")
        each = torch.arange(self.vocabulary)
        self._take_pieces(each >= sizes["special"], torch.zeros_like(each, dtype=torch.bool), None)
        width = model.encoder_widths["notes"]
        shared = model.embedding_table("notes")
        self.norm = nn.LayerNorm(width)
        self.transform = nn.Linear(width, shared.embedding_dim if shared is not None else width)
        rows = self.vocabulary if shared is None else shared.num_embeddings
        self.bias = nn.Parameter(torch.zeros(rows))
        own = None if shared is not None else nn.Embedding(self.vocabulary, width)
        self.own_embedding = own
        # In a tuple, so that the encoder's table is not registered as a part of the objective.
        self._table = (shared,)

    @classmethod
    def check(
        cls, options: Mapping[str, Any], *, modalities: Sequence[str], frozen: Collection[str]
    ) -> None:
        """Refuse notes that are not configured, or frozen."""
        check_learns("notes", objective="tokens", modalities=modalities, frozen=frozen)

    def use_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Read which pieces are text, and which continue a word."""
        learned = statistics["notes"]
        tokenizer = parse(learned["tokenizer"], where="statistics.json")
        is_text = self.is_text.clone()
        is_text[learned.get("special_pieces", [])] = False
        # A letter after a bracket may look as if it continued it.
        ends = [(i, piece[-1]) for piece, i in tokenizer.get_vocab().items() if piece]
        is_mark = torch.zeros_like(is_text)
        is_mark[[i for i, end in ends if end.isascii() and not end.isalnum()]] = True
        goes_on = torch.from_numpy(continues(tokenizer, size=self.vocabulary))
        self._take_pieces(is_text, goes_on[: self.vocabulary], is_mark)

    def _take_pieces(self, is_text: Tensor, continues: Tensor, is_mark: Tensor | None) -> None:
        """Keep what is known of each piece, [vocabulary] bool; no part of the state."""
        found = {
            "is_text": is_text,
            "continues": continues,
            "is_mark": torch.zeros_like(is_text) if is_mark is None else is_mark,
            "words": torch.nonzero(is_text)[:, 0],
        }
        for name, tensor in found.items():
            self.register_buffer(name, tensor, persistent=False)

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, HiddenTokens]:
        """Choose words and replace most of them."""
        notes: Tokens = container_of(batch, "notes", Tokens)
        if notes.encoded is not None:
            raise ConfigError(
                "pretrain.objectives.tokens: notes were encoded before, so that no word can be "
                "hidden; remove the objective, or train their encoder"
            )
        rows, length = notes.ids.shape
        text = notes.mask & self.is_text[notes.ids]
        word = self._words(notes.ids, text)
        # One draw a word: places after the last word are never looked up.
        choice, fates = (uniform((rows, length + 1), generator, word) for _ in range(2))
        chosen = text & (choice.gather(1, word) < self.share)
        fate = fates.gather(1, word)
        draws = uniform((rows, length), generator, word)
        another = self.words[(draws * len(self.words)).long().clamp_max(len(self.words) - 1)]
        ids = torch.where(chosen & (fate >= self.kept), self.mask_id, notes.ids)
        is_random = chosen & (fate >= self.kept) & (fate < self.kept + self.random)
        ids = torch.where(is_random, another, ids)
        return batch.replace(notes=notes.replace(ids=ids)), HiddenTokens(chosen, notes.ids)

    def _words(self, ids: Tensor, text: Tensor) -> Tensor:
        """[R, L] int64, from 1: which word of its row a piece is of."""
        before = nn.functional.pad(text & ~self.is_mark[ids], (1, 0))[:, :-1]
        return (text & ~(self.continues[ids] & before)).cumsum(1)

    def loss(self, outputs: ModelOutputs, hidden: HiddenTokens) -> Loss:
        """Cross-entropy of the chosen word pieces; nothing else is decoded."""
        states = outputs.encodings["notes"].states[hidden.chosen]
        table = self._table[0] or self.own_embedding
        assert table is not None
        logits = linear(self.transform(self.norm(states)), table.weight, self.bias)
        surprise = cross_entropy(logits, hidden.ids[hidden.chosen], reduction="sum")
        return add_parts({"tokens/word": surprise / max(len(states), 1)})
