"""The WordPiece tokenizer of the notes: trained on train, or that of given weights."""

from clinical.errors import ConfigError

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer

SPECIAL = {
    "pad": "[PAD]",
    "unknown": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
}
"""What the pieces mean to the encoder and the objectives, and how they are spelt."""

PRINTABLE = [chr(code) for code in range(33, 127) if not chr(code).isupper()]

WORDS_IN_TRAINING = 5_000_000
"""Above so many words the counts are scaled down; merges follow frequencies, not counts."""

LAST_SPECIAL = 1000
"""In BERT's vocabularies the special pieces come first; below this at the latest."""

_normalizer = BertNormalizer(lowercase=True)
_pre_tokenizer = BertPreTokenizer()


def words(text: str) -> Counter[str]:
    """How often a text has each lower-case word and punctuation mark, before word pieces."""
    counts: Counter[str] = Counter()
    for chunk, times in Counter(text.split()).items():
        for word in _words_of_chunk(chunk):
            counts[word] += times
    return counts


@lru_cache(maxsize=1 << 16)
def _words_of_chunk(chunk: str) -> tuple[str, ...]:
    """Words between two blanks; a few of them are most of all text."""
    normal = _normalizer.normalize_str(chunk)
    return tuple(word for word, _ in _pre_tokenizer.pre_tokenize_str(normal))


def encode_starts(
    tokenizer: Tokenizer, texts: Sequence[str], *, limit: int
) -> tuple[list[NDArray[np.int32]], int]:
    """The first pieces of each text, start and end pieces included, and how many were cut."""
    # A chunk between blanks is a piece at least, so no more of them than `limit` are looked at.
    encoded = tokenizer.encode_batch_fast([_start(text, limit) for text in texts])
    ids = [encoding.ids for encoding in encoded]
    kept = [i if len(i) <= limit else [*i[: limit - 1], i[-1]] for i in ids]
    return [np.array(i, dtype=np.int32) for i in kept], sum(len(i) > limit for i in ids)


def _start(text: str, n_chunks: int) -> str:
    parts = text.split(maxsplit=n_chunks)
    return text if len(parts) <= n_chunks else text[: len(text) - len(parts[-1])]


def train(counts: Mapping[str, int], *, vocabulary: int) -> Tokenizer:
    """A WordPiece tokenizer whose pieces come from these words and from nothing else.

    Every printable ASCII character and every character of the words is a piece, so that other
    words are spelt. The same counts give the same tokenizer, whatever their order.
    """
    alphabet = sorted({*PRINTABLE, *(letter for word in counts for letter in word)})
    # Naming every letter here fixes the ids that the trainer would otherwise give in the order
    # of a randomly seeded hash map, and with them how ties between merges break.
    fixed = [*SPECIAL.values(), *alphabet, *(f"##{letter}" for letter in alphabet)]
    if vocabulary < len(fixed):
        raise ConfigError(
            f"modalities.notes.vocabulary: {vocabulary} is too small; the special and "
            f"single-character pieces of these notes alone are {len(fixed)}"
        )
    draft = Tokenizer(WordPiece(unk_token=SPECIAL["unknown"]))
    draft.pre_tokenizer = BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=vocabulary, min_frequency=2, special_tokens=fixed, show_progress=False
    )
    draft.train_from_iterator(_repeated(counts), trainer)
    return build(draft.get_vocab(with_added_tokens=True))


def _repeated(counts: Mapping[str, int]) -> Iterator[str]:
    scale = min(1.0, WORDS_IN_TRAINING / max(sum(counts.values()), 1))
    for word in sorted(counts):
        times = max(round(counts[word] * scale), 1)
        for start in range(0, times, 1000):
            yield " ".join([word] * min(1000, times - start))


def build(vocabulary: Mapping[str, int], *, lowercase: bool = True) -> Tokenizer:
    """A BERT tokenizer of a vocabulary.

    The special pieces are not declared as such to the tokenizer: a note that happens to say
    "[MASK]" is text.
    """
    tokenizer = Tokenizer(WordPiece(dict(vocabulary), unk_token=SPECIAL["unknown"]))
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    ids = special_ids(tokenizer)
    tokenizer.post_processor = BertProcessing(
        (SPECIAL["sep"], ids["sep"]), (SPECIAL["cls"], ids["cls"])
    )
    return tokenizer


def special_ids(tokenizer: Tokenizer, *, where: str = "modalities.notes") -> dict[str, int]:
    """Ids of the pieces of `SPECIAL`, and `special`: every id below it is a special piece.

    Raises:
        ConfigError: the tokenizer lacks one or has it among its ordinary pieces.
    """
    found = {role: tokenizer.token_to_id(piece) for role, piece in SPECIAL.items()}
    ids = {role: number for role, number in found.items() if number is not None}
    missing = [piece for role, piece in SPECIAL.items() if role not in ids]
    if missing:
        raise ConfigError(
            f"{where}: the vocabulary lacks {', '.join(missing)}; give the folder of a BERT model"
        )
    last = max(ids.values())
    if last >= LAST_SPECIAL:
        raise ConfigError(
            f"{where}: special pieces should come first in the vocabulary, but one has id {last}; "
            "give the folder of a BERT model"
        )
    return {**ids, "special": last + 1}


def continues(tokenizer: Tokenizer, *, size: int | None = None) -> NDArray[np.bool_]:
    """[vocabulary] bool: the piece continues the word before it.

    Args:
        tokenizer: Of word pieces.
        size: Rows, where the embedding table has more than the tokenizer has pieces.
    """
    vocabulary = tokenizer.get_vocab()
    found = np.zeros(max(size or 0, 1 + max(vocabulary.values(), default=-1)), dtype=np.bool_)
    found[[i for piece, i in vocabulary.items() if piece.startswith("##") and piece != "##"]] = True
    return found


def read_weights(folder: Path) -> tuple[Tokenizer, dict[str, int]]:
    """Tokenizer and architecture of a local folder of BERT weights.

    Returns:
        The tokenizer, and `vocabulary, hidden_size, layers, heads, intermediate, positions,
        types` from its config.json.

    Raises:
        ConfigError: a file is missing or says something else.
    """
    config = _json(folder / "config.json")
    keys = {
        "vocabulary": "vocab_size",
        "hidden_size": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "intermediate": "intermediate_size",
        "positions": "max_position_embeddings",
        "types": "type_vocab_size",
    }
    missing = sorted(key for key in keys.values() if not isinstance(config.get(key), int))
    if missing:
        raise ConfigError(
            f"{folder.name}/config.json: no whole number for {', '.join(missing)}; give the "
            "folder of a BERT model"
        )
    sizes = {name: int(config[key]) for name, key in keys.items()}
    tokenizer = _read_tokenizer(folder)
    if tokenizer.get_vocab_size() > sizes["vocabulary"]:
        raise ConfigError(
            f"{folder.name}: the tokenizer has {tokenizer.get_vocab_size()} pieces, config.json "
            f"says {sizes['vocabulary']}; use files of the same model"
        )
    return tokenizer, sizes


def architecture(folder: Path) -> dict[str, Any]:
    """The config.json of a folder of weights, without what it says of where it came from."""
    config = _json(folder / "config.json")
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _read_tokenizer(folder: Path) -> Tokenizer:
    whole, plain = folder / "tokenizer.json", folder / "vocab.txt"
    if whole.is_file():
        return parse(whole.read_text(encoding="utf-8"), where=f"{folder.name}/{whole.name}")
    if plain.is_file():
        # Not splitlines: it would also split at the exotic separators that are pieces of BERT's.
        pieces = plain.read_text(encoding="utf-8").rstrip("\n").split("\n")
        settings = folder / "tokenizer_config.json"
        options = _json(settings) if settings.is_file() else {}
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        return build(vocabulary, lowercase=bool(options.get("do_lower_case", True)))
    raise ConfigError(
        f"{folder.name}: neither tokenizer.json nor vocab.txt is there; give the folder of a BERT "
        "model, or weights: null to train a tokenizer on the notes"
    )


def parse(text: str, *, where: str) -> Tokenizer:
    """A tokenizer from its JSON, without padding and cutting of its own."""
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception and nothing narrower
        raise ConfigError(f"{where}: is not a tokenizer of the tokenizers library") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # What looks like a special piece in a note is text.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path.parent.name}/{path.name}: does not exist; give the folder of a BERT model"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path.parent.name}/{path.name}: is not a JSON file") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path.parent.name}/{path.name}: should be a JSON object")
    return raw
