"""Encoder of notes: a BERT, then attention over a sample's notes; counted phrases beside it."""

from clinical.containers import Tokens
from clinical.encoders.encoding import Encoder, Encoding, check_heads
from clinical.encoders.pooling import AttentionPooling, TimeEmbedding, stack_rows
from clinical.encoders.weights import load_fitting, read_tensors
from clinical.errors import ConfigError

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn


class BertEncoder(Encoder):
    """A BERT built from sizes, or of the architecture of given weights.

    What counted phrases say is added after the last norm, so that what follows can read it
    linearly.

    Args:
        sizes: `vocabulary, max_tokens, pad, phrases`; with weights also `hidden_size, layers,
            heads, intermediate, positions, types`, which then take the place of the keys below.
        width: D, the hidden size.
        layers, heads: of the BERT.
        dropout: of its layers; attention weights are not dropped, to stay on fused kernels.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        # Imported here: this takes seconds, and reading the menu must not.
        from transformers import BertConfig, BertModel

        self.width = width = sizes.get("hidden_size", width)
        heads = sizes.get("heads", heads)
        check_heads("notes", width, heads)
        architecture = BertConfig(
            vocab_size=sizes["vocabulary"],
            hidden_size=width,
            num_hidden_layers=sizes.get("layers", layers),
            num_attention_heads=heads,
            intermediate_size=sizes.get("intermediate", 2 * width),
            max_position_embeddings=sizes.get("positions", sizes["max_tokens"]),
            type_vocab_size=sizes.get("types", 2),
            pad_token_id=sizes.get("pad", 0),
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,
            # 0.02 is meant for 768: in a narrow BERT all attention would start uniform.
            initializer_range=0.02 * (768 / width) ** 0.5,
        )
        self.bert = BertModel(architecture, add_pooling_layer=False)
        self.pool_pieces = AttentionPooling(width, heads=heads)
        self.time = TimeEmbedding(width, shortest_hours=1.0, longest_hours=20_000.0)
        self.pool_notes = AttentionPooling(width, heads=heads)
        self.norm = nn.LayerNorm(width)
        told = sizes.get("phrases", 0)
        self.phrases = nn.Linear(told, width, bias=False) if told else None

    @property
    def word_embedding(self) -> nn.Embedding:
        """The word pieces' vectors, [vocabulary, D]."""
        table: nn.Embedding = self.bert.embeddings.word_embeddings
        return table

    def forward(self, container: Tokens) -> Encoding:
        """Encode notes; `tokens` are the notes, `states` their word pieces."""
        mask = container.mask
        if len(mask):
            # A row of padding alone looks at itself: attention over nothing would be NaN.
            seen = mask | ~mask.any(1, keepdim=True)
            states: Tensor = self.bert(
                input_ids=container.ids, attention_mask=seen.long()
            ).last_hidden_state
        else:
            states = self.norm.weight.new_zeros(*mask.shape, self.width)
        notes = self.pool_pieces(states, mask) + self.time(container.time_hours)
        tokens, token_mask = stack_rows(notes, container.sample, container.size)
        summary = self.norm(self.pool_notes(tokens, token_mask))
        if self.phrases is not None:
            phrases, _ = stack_rows(container.phrases, container.sample, container.size)
            count = token_mask.sum(1, keepdim=True).clamp_min(1)
            summary = summary + self.phrases(phrases.sum(1) / count)
        return Encoding(summary=summary, tokens=tokens, token_mask=token_mask, states=states)

    def load_weights(self, path: Path) -> None:
        """Start from a local folder with `config.json` and safetensors or PyTorch weights.

        Raises:
            ConfigError: a file is missing or unsafe, or the architecture is another one.
        """
        self._check_architecture(path / "config.json")
        files = [path / "model.safetensors", path / "pytorch_model.bin"]
        found = [file for file in files if file.is_file()]
        if not found:
            raise ConfigError(f"{path}: holds neither model.safetensors nor pytorch_model.bin")
        tensors = {_current(name): tensor for name, tensor in read_tensors(found[0]).items()}
        load_fitting(self.bert, tensors, source=found[0])

    def _check_architecture(self, file: Path) -> None:
        try:
            given = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: cannot be read as JSON; {error}") from error
        own = self.bert.config
        wanted = {
            "model_type": "bert",
            "hidden_act": own.hidden_act,
            "hidden_size": own.hidden_size,
            "num_hidden_layers": own.num_hidden_layers,
            "num_attention_heads": own.num_attention_heads,
            "intermediate_size": own.intermediate_size,
            "layer_norm_eps": own.layer_norm_eps,
            "position_embedding_type": "absolute",
        }
        wrong = [
            f"{key} is {given[key]}, not {value}"
            for key, value in wanted.items()
            if key in given and given[key] != value
        ]
        if wrong:
            raise ConfigError(f"{file}: {'; '.join(wrong)}; give the weights of such a BERT")


def _current(name: str) -> str:
    """A tensor's name as BertModel has it: without a wrapper's prefix or TensorFlow's terms."""
    name = name.removeprefix("bert.")
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    return name.replace("LayerNorm.beta", "LayerNorm.bias")
