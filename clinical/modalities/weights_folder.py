"""A local folder of a pretrained model of the BERT family: its tokenizer and architecture.

Files are read as plain data; nothing in the folder is run, whatever its config.json asks for.
"""

from clinical.errors import ConfigError
from clinical.modalities.tokenizer import SPELLINGS, parse, special_ids
from clinical.modalities.wordpiece import build

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

KEYS = {
    "vocabulary": ("vocab_size",),
    "hidden_size": ("hidden_size", "dim"),
    "layers": ("num_hidden_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_heads"),
    "intermediate": ("intermediate_size", "hidden_dim"),
    "positions": ("max_position_embeddings",),
    "types": ("type_vocab_size",),
}
"""Size -> how config.json calls it: BERT, RoBERTa and ModernBERT, then DistilBERT."""
OPTIONAL = frozenset({"positions", "types"})

POSITIONS_AFTER_PADDING = frozenset(
    {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "xlm-roberta"}
)
"""Architectures whose first pieces have the position after the id of padding."""

ROLES = {
    "pad": "pad_token",
    "unknown": "unk_token",
    "cls": "cls_token",
    "sep": "sep_token",
    "mask": "mask_token",
}
"""Role of a special piece -> how the tokenizer's files call it."""

REMEDY = "give the folder of a model of the BERT family"


@dataclass(frozen=True)
class Weights:
    """What a folder says of its model, without the tensors.

    Attributes:
        tokenizer: without padding and cutting of its own.
        roles: ids of `pad, unknown, cls, sep, mask`.
        sizes: `vocabulary, hidden_size, layers, heads, intermediate`, and where config.json has
            them `types` and `positions` (pieces that a chunk may have).
        config: config.json, less what is about the machine that wrote it.
    """

    tokenizer: Tokenizer
    roles: dict[str, int]
    sizes: dict[str, int]
    config: dict[str, Any]


def read_weights(folder: Path) -> Weights:
    """Read a folder's tokenizer and config.json.

    Raises:
        ConfigError: a file is missing or says something else.
    """
    config = _json(folder / "config.json")
    sizes = _sizes(config, where=f"{folder.name}/config.json")
    settings = _settings(folder)
    tokenizer = _read_tokenizer(folder, settings)
    n_pieces = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if n_pieces > sizes["vocabulary"]:
        raise ConfigError(
            f"{folder.name}: the tokenizer has {n_pieces} pieces, config.json "
            f"says {sizes['vocabulary']}; use files of the same model"
        )
    roles = special_ids(tokenizer, names=_names(settings), where=folder.name)
    if "positions" in sizes and config.get("model_type") in POSITIONS_AFTER_PADDING:
        sizes["positions"] -= 1 + roles["pad"]
    # Paths of the machine that wrote it, and code that nobody is to run.
    told = {k: v for k, v in config.items() if not k.startswith("_") and k != "auto_map"}
    return Weights(tokenizer, roles, sizes, told)


def _sizes(config: Mapping[str, Any], *, where: str) -> dict[str, int]:
    sizes, missing = {}, []
    for name, keys in KEYS.items():
        given = [config[key] for key in keys if key in config]
        if given and type(given[0]) is int:
            sizes[name] = given[0]
        elif given or name not in OPTIONAL:
            missing.append(keys[0])
    if missing:
        raise ConfigError(f"{where}: no whole number for {', '.join(sorted(missing))}; {REMEDY}")
    return sizes


def _settings(folder: Path) -> dict[str, Any]:
    """What the tokenizer's own files say beside its pieces."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= _json(folder / name)
    return found


def _names(settings: Mapping[str, Any]) -> dict[str, str]:
    """Role -> spelling, where the settings name one."""
    named = {role: settings.get(key) for role, key in ROLES.items() if role in SPELLINGS}
    spelt = {r: n.get("content") if isinstance(n, dict) else n for r, n in named.items()}
    return {role: name for role, name in spelt.items() if isinstance(name, str)}


def _read_tokenizer(folder: Path, settings: Mapping[str, Any]) -> Tokenizer:
    whole, plain = folder / "tokenizer.json", folder / "vocab.txt"
    if whole.is_file():
        try:
            text = whole.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{folder.name}/{whole.name}: is not a JSON file") from error
        return parse(text, where=f"{folder.name}/{whole.name}")
    if plain.is_file():
        # Not splitlines: it would also split at the exotic separators that are pieces of BERT's.
        pieces = plain.read_text(encoding="utf-8").rstrip("\n").split("\n")
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        return build(vocabulary, lowercase=bool(settings.get("do_lower_case", True)))
    raise ConfigError(
        f"{folder.name}: neither tokenizer.json nor vocab.txt is there; {REMEDY} (transformers' "
        "AutoTokenizer writes tokenizer.json), or weights: null to train a tokenizer on the notes"
    )


def _json(path: Path) -> dict[str, Any]:
    where = f"{path.parent.name}/{path.name}"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{where}: does not exist; {REMEDY}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{where}: is not a JSON file; {REMEDY}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: should be a JSON object; {REMEDY}")
    return raw
