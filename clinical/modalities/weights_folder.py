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


def read_weights(folder: Path, *, where: str) -> Weights:
    """Read a folder's tokenizer and config.json.

    Args:
        folder: local, perhaps of the hub's cache.
        where: what the user calls it, for messages; the cache's folders are named by a hash.

    Raises:
        ConfigError: there is no such folder, or a file is missing or says something else.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{where}: there is no folder {folder}; {REMEDY}, or a name of the hub, which is "
            "owner/model (google-bert/bert-base-uncased)"
        )
    config = _json(folder / "config.json", where)
    sizes = _sizes(config, where=f"{where}: config.json")
    settings = _settings(folder, where)
    tokenizer = _read_tokenizer(folder, settings, where)
    n_pieces = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if n_pieces > sizes["vocabulary"]:
        raise ConfigError(
            f"{where}: the tokenizer has {n_pieces} pieces, config.json "
            f"says {sizes['vocabulary']}; use files of the same model"
        )
    roles = special_ids(tokenizer, names=_names(settings), where=where)
    if "positions" in sizes and config.get("model_type") in POSITIONS_AFTER_PADDING:
        sizes["positions"] -= 1 + roles["pad"]
    # Paths of the machine that wrote it, and code that nobody is to run.
    return Weights(tokenizer, roles, sizes, _told(config))


def _told(value: Any) -> Any:
    """A value of config.json without the keys of machine and code, however deep they are."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not k.startswith("_") and k != "auto_map"}
        return {key: _told(own) for key, own in kept.items()}
    return [_told(own) for own in value] if isinstance(value, list) else value


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


def _settings(folder: Path, where: str) -> dict[str, Any]:
    """What the tokenizer's own files say beside its pieces."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= _json(folder / name, where)
    return found


def _names(settings: Mapping[str, Any]) -> dict[str, str]:
    """Role -> spelling, where the settings name one."""
    named = {role: settings.get(key) for role, key in ROLES.items() if role in SPELLINGS}
    spelt = {r: n.get("content") if isinstance(n, dict) else n for r, n in named.items()}
    return {role: name for role, name in spelt.items() if isinstance(name, str)}


def _read_tokenizer(folder: Path, settings: Mapping[str, Any], where: str) -> Tokenizer:
    whole, plain = folder / "tokenizer.json", folder / "vocab.txt"
    if whole.is_file():
        return parse(_text(whole, where), where=f"{where}: {whole.name}")
    if plain.is_file():
        # Not splitlines: it would also split at the exotic separators that are pieces of BERT's.
        pieces = _text(plain, where).rstrip("\n").split("\n")
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        return build(vocabulary, lowercase=bool(settings.get("do_lower_case", True)))
    raise ConfigError(
        f"{where}: neither tokenizer.json nor vocab.txt is there; {REMEDY} (transformers' "
        "AutoTokenizer writes tokenizer.json), or weights: null to train a tokenizer on the notes"
    )


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        raw = json.loads(_text(path, where))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: {path.name}: is not a JSON file; {REMEDY}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: {path.name}: should be a JSON object; {REMEDY}")
    return raw


def _text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{where}: {path.name}: does not exist; {REMEDY}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {path.name}: is not a text in UTF-8; {REMEDY}") from error
