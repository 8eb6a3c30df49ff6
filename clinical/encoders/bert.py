"""Encoder of notes: a BERT, then attention over a sample's chunks; counted phrases beside it."""

from clinical.config import pick
from clinical.containers import Tokens
from clinical.encoders import lora
from clinical.encoders.encoding import Encoder, Encoding, check_heads
from clinical.encoders.families import (
    attention_projections,
    build_text_encoder,
    load_text_weights,
    text_weights_file,
)
from clinical.encoders.pooling import (
    AttentionPooling,
    TimeEmbedding,
    mean_rows,
    sometimes_unknown,
    stack_rows,
)
from clinical.errors import ConfigError
from clinical.modalities.weights_folder import read_weights

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

ROWS_AT_ONCE = 32
"""Of frozen weights, by length: a long chunk costs no short one its padding, nor much memory."""


class BertEncoder(Encoder):
    """A BERT built from sizes, or a text encoder of the architecture of given weights.

    A chunk of a note is its pieces pooled, when it was written, what kind of note it is of, and
    how far into the note it stands; a sample is its chunks pooled. Kind and place start silent.
    What counted phrases say, and frozen weights on average, is added after the last norm, so that
    what follows can read it linearly.

    Args:
        sizes: `vocabulary, max_tokens, pad, phrases, topics, kinds`; with weights also `config`,
            which then takes the place of `layers` and `dropout`, and unless frozen of `width`.
        width: D, the hidden size.
        layers: of the BERT.
        heads: of the BERT that is built from sizes, and of the attention over pieces and chunks.
        dropout: of its layers, and of what frozen weights say, and how often the kind of a note is
            unknown in training; attention weights are not dropped, to stay on fused kernels.
        train: `full`; `frozen`, which leaves given weights as they are, so that what they make of
            a chunk is computed once; or `lora`, low-rank adapters beside their attention.
        lora_rank: of the adapters, also of those that a recipe of fine-tuning adds.
        lora_alpha: their weight is `lora_alpha / lora_rank`.
    """

    is_fetched: ClassVar[bool] = True
    takes_adapters: ClassVar[bool] = True
    beside_frozen: ClassVar[frozenset[str]] = frozenset({"phrases", "topics", "kinds"})
    only_in_training: ClassVar[frozenset[str]] = frozenset(
        {"dropout", "train", "lora_rank", "lora_alpha"}
    )

    def __init__(
        self,
        sizes: Mapping[str, Any],
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        train: Literal["full", "frozen", "lora"] = "full",
        lora_rank: int = 8,
        lora_alpha: int = 16,
    ) -> None:
        super().__init__()
        given = sizes.get("config")
        self.way = _checked_way(train, is_given=given is not None)
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.has_adapters = False
        if lora_rank < 1:
            raise ConfigError(f"modalities.notes.lora_rank: {lora_rank} should be 1 or more")
        if given is None:
            check_heads("notes", width, heads)
            given = _plain_bert(sizes, width=width, layers=layers, heads=heads, dropout=dropout)
        self.bert = build_text_encoder(given)
        if train == "lora" and not attention_projections(self.bert):
            raise ConfigError(
                f"modalities.notes.train: the attention of a {given['model_type']} has no linear "
                "layers, beside which adapters stand; take full or frozen"
            )
        self.hidden_size = int(self.bert.config.hidden_size)
        self.frozen: FrozenReadout | None = None
        self.pool_pieces: AttentionPooling | None = None
        if train == "frozen":
            self.freeze(self.bert)
            self.encoded_width = self.hidden_size
            self.frozen = FrozenReadout(self.hidden_size, width, dropout=dropout)
        else:
            width = self.hidden_size
            self.pool_pieces = AttentionPooling(width, heads=heads)
        check_heads("notes", width, heads)
        self.width = width
        self.time = TimeEmbedding(width, shortest_hours=1.0, longest_hours=20_000.0)
        self.place = ChunkPlace(sizes.get("kinds", 1), width, dropout=dropout)
        self.pool_notes = AttentionPooling(width, heads=heads)
        self.norm = nn.LayerNorm(width)
        self.n_topics = sizes.get("topics", 0)
        counted = {"phrases": sizes.get("phrases", 0) - self.n_topics, "topics": self.n_topics}
        self.counted = nn.ModuleDict(
            {name: nn.Linear(size, width, bias=False) for name, size in counted.items() if size}
        )
        if self.n_topics:  # many and mostly of no use: at first they are next to silent
            topics = cast(nn.Linear, self.counted["topics"])
            nn.init.normal_(topics.weight, std=0.1 / self.n_topics**0.5)

    @classmethod
    def check(cls, where: str, options: Mapping[str, Any], *, weights: Path | None) -> None:
        """Refuse to keep or adapt weights that are not given, a folder that is of no use, and
        adapters without peft."""
        way = _checked_way(options.get("train", "full"), is_given=weights is not None)
        if way == "lora":
            lora.check_installed(f"{where}.train")
        if weights is None:
            return
        text_weights_file(weights)
        read = read_weights(weights, where=f"{where}.weights")
        sizes = {"vocabulary": read.sizes["vocabulary"], "config": read.config}
        with torch.device("meta"):  # of tensors without values, so that it costs little
            cls(sizes, **pick(options, cls))

    @property
    def piece_table(self) -> nn.Embedding | None:
        """Where word pieces are looked up on their way in."""
        table = self.bert.get_input_embeddings()
        return table if isinstance(table, nn.Embedding) else None

    @property
    def word_embedding(self) -> nn.Embedding | None:
        """The word pieces' vectors, [vocabulary, hidden size]; None where no state is a piece's."""
        return self.piece_table if self.frozen is None else None

    def encode_rows(self, container: Tokens) -> Tensor:
        """[R, hidden size] the mean of each chunk's pieces.

        Sentence encoders are trained for it, and of MiniLM on transcribed notes the first piece
        told less (by average precision 0.645 and not 0.698) and nothing beside it.
        """
        mask = container.mask
        encoded = self.norm.weight.new_zeros(len(mask), self.hidden_size)
        for rows in mask.sum(1).argsort(stable=True).split(ROWS_AT_ONCE):
            longest = int(mask[rows].sum(1).max()) if len(rows) else 0
            if not longest:
                continue  # nothing stands in these
            shorter = mask[rows, :longest]
            states = self._states(container.ids[rows, :longest], shorter)
            held = shorter[..., None].to(states.dtype)
            mean = (states * held).sum(1) / held.sum(1).clamp_min(1)
            encoded = encoded.index_put((rows,), mean.to(encoded.dtype))
        return encoded

    def forward(self, container: Tokens) -> Encoding:
        """Encode notes; `tokens` are the chunks, `states` their word pieces, none if frozen."""
        mask = container.mask
        read: dict[str, Tensor] = {}
        if self.frozen is not None:
            encoded = container.encoded
            encoded = self.encode_rows(container) if encoded is None else encoded
            chunks, direct, read["frozen"] = self.frozen(encoded)
            states = chunks.new_zeros(len(mask), 0, self.width)
        else:
            assert self.pool_pieces is not None
            states, direct = self._states(container.ids, mask), None
            chunks = self.pool_pieces(states, mask)
        chunks = chunks + self.time(container.time_hours) + self.place(container)
        tokens, token_mask = stack_rows(chunks, container.sample, container.size)
        summary = self.norm(self.pool_notes(tokens, token_mask))
        agreed = container.phrases.shape[1] - self.n_topics
        read |= {"phrases": container.phrases[:, :agreed], "topics": container.phrases[:, agreed:]}
        read = {k: mean_rows(v, container.sample, container.size) for k, v in read.items()}
        for name, layer in self.counted.items():
            summary = summary + layer(read[name])
        if direct is not None:
            summary = summary + mean_rows(direct, container.sample, container.size)
        return Encoding(summary, tokens, token_mask, states, read_linearly=read)

    def linear_layers(self) -> Mapping[str, nn.Linear]:
        """Of what frozen weights say on average, and of counted phrases."""
        layers = {"frozen": self.frozen.direct} if self.frozen is not None else {}
        return {**layers, **{name: cast(nn.Linear, one) for name, one in self.counted.items()}}

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[R, L, hidden size]."""
        if not len(mask):
            return self.norm.weight.new_zeros(*mask.shape, self.hidden_size)
        # A row of padding alone looks at itself: attention over nothing would be NaN.
        seen = mask | ~mask.any(1, keepdim=True)
        states: Tensor = self.bert(input_ids=ids, attention_mask=seen.long()).last_hidden_state
        return states

    def load_weights(self, path: Path) -> None:
        """Start from a local folder of weights, with adapters beside them where they are to learn.

        Raises:
            ConfigError: a file is missing or unsafe, or its tensors are of another architecture.
        """
        load_text_weights(self.bert, path)
        if self.way == "lora":
            self.adapt()

    def adapt(self) -> None:
        """Let the BERT learn by adapters alone from now on; it says what it said before.

        Raises:
            ConfigError: it is frozen, or its attention has no linear layers.
        """
        if self.has_adapters:
            return
        layers = attention_projections(self.bert)
        if self.way == "frozen" or not layers:
            why = "it is kept frozen" if layers else "its attention has no linear layers"
            raise ConfigError(f"no adapters can stand beside this BERT: {why}")
        lora.attach(self.bert, layers, rank=self.lora_rank, alpha=self.lora_alpha)
        self.has_adapters = True

    def settle(self) -> None:
        """Merge the adapters into the weights, so that scoring needs none."""
        if self.has_adapters:
            lora.merge(self.bert)
            self.has_adapters = False


class ChunkPlace(nn.Module):
    """What kind of note a chunk is of, and how far into it; zero until it learns.

    The kind is unknown now and then in training, so that an unknown one means something.

    Args:
        kinds: rows of the vocabulary of kinds, the unknown one included.
        width: D.
        dropout: how often the kind is unknown in training.
    """

    along: ClassVar[Mapping[str, tuple[str, ...]]] = {"kind.weight": ("vocabulary",)}

    def __init__(self, kinds: int, width: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.kind = nn.Embedding(kinds, width) if kinds > 1 else None
        self.number = nn.Linear(2, width, bias=False)
        nn.init.zeros_(self.number.weight)
        if self.kind is not None:
            nn.init.zeros_(self.kind.weight)

    def forward(self, container: Tokens) -> Tensor:
        """[R, D]."""
        number = container.chunk.to(self.number.weight.dtype)
        placed: Tensor = self.number(torch.stack((number.clamp(max=1), number.log1p()), 1))
        if self.kind is None:
            return placed
        kind = sometimes_unknown(container.kind, self.dropout, training=self.training)
        told: Tensor = placed + self.kind(kind)
        return told


class FrozenReadout(nn.Module):
    """Frozen encodings on the way to a width of their own: one for attention, one directly.

    They are normalised first, since sentence encoders are trained for directions. Only what is
    attended to is dropped in training: most of an encoding is what all texts share, and without
    parts of that a sum is noise.
    """

    def __init__(self, encoded_width: int, width: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.attended = nn.Linear(encoded_width, width)
        self.direct = nn.Linear(encoded_width, width, bias=False)

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[R, F] -> [R, D] to be pooled by attention, [R, D] to be averaged, and [R, F] of which
        the latter is made."""
        normal = nn.functional.layer_norm(encoded, encoded.shape[-1:])
        return self.attended(self.dropout(normal)), self.direct(normal), normal


def _checked_way(train: str, *, is_given: bool) -> str:
    if train not in ("full", "frozen", "lora"):
        raise ConfigError(f"modalities.notes.train: {train} should be full, frozen or lora")
    if train != "full" and not is_given:
        raise ConfigError(
            f"modalities.notes.train: {train} builds on given weights; give weights: FOLDER, or "
            "train: full"
        )
    return train


def _plain_bert(
    sizes: Mapping[str, Any], *, width: int, layers: int, heads: int, dropout: float
) -> dict[str, Any]:
    """The config.json of a BERT built from sizes."""
    return {
        "model_type": "bert",
        "vocab_size": sizes["vocabulary"],
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * width,
        "max_position_embeddings": sizes["max_tokens"],
        "pad_token_id": sizes.get("pad", 0),
        "hidden_dropout_prob": dropout,
        # 0.02 is meant for 768: in a narrow BERT all attention would start uniform.
        "initializer_range": 0.02 * (768 / width) ** 0.5,
    }
