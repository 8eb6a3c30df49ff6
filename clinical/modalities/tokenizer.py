"""What the pieces of a tokenizer are: special, a word's start or its continuation."""

from clinical.errors import ConfigError

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

SPELLINGS = {
    "pad": ("[PAD]", "<pad>"),
    "unknown": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
"""What the special pieces mean to the encoder and the objectives; BERT's and RoBERTa's names."""

BLANK_OF_BYTES, BLANK_OF_SENTENCES = "Ġ", "▁"
"""How byte-level BPE and SentencePiece write the blank before a word."""

_UNUSED = re.compile(r"\[unused\d+\]")


def special_ids(
    tokenizer: Tokenizer,
    *,
    names: Mapping[str, str] | None = None,
    where: str = "modalities.notes",
) -> dict[str, int]:
    """Ids of the special pieces, by role.

    Args:
        tokenizer: whose pieces they are.
        names: role -> how the tokenizer's own files spell it; the usual spellings otherwise.
        where: for the message.

    Raises:
        ConfigError: the tokenizer lacks one.
    """
    spelt = {
        role: (n,) for role, n in (names or {}).items() if tokenizer.token_to_id(n) is not None
    }
    found = {}
    for role, usual in (SPELLINGS | spelt).items():
        ids = (tokenizer.token_to_id(piece) for piece in usual)
        found[role] = next((number for number in ids if number is not None), None)
    missing = [SPELLINGS[role][0] for role, number in found.items() if number is None]
    if missing:
        raise ConfigError(
            f"{where}: the vocabulary lacks {', '.join(missing)}; give the folder of a model of "
            "the BERT family"
        )
    return {role: number for role, number in found.items() if number is not None}


def special_pieces(tokenizer: Tokenizer, roles: Mapping[str, int], *, size: int = 0) -> list[int]:
    """All ids that are no text, ascending: those with a role, declared so, or never used.

    Args:
        tokenizer: whose pieces they are.
        roles: as `special_ids` gives them.
        size: rows of the embedding table; those past the last piece are none.
    """
    declared = tokenizer.get_added_tokens_decoder().items()
    vocabulary = tokenizer.get_vocab()
    unused = (i for piece, i in vocabulary.items() if _UNUSED.fullmatch(piece))
    empty = set(range(size)) - set(vocabulary.values())
    return sorted({*roles.values(), *(i for i, t in declared if t.special), *unused, *empty})


def leading(special: list[int]) -> int:
    """How many ids from 0 on are all special pieces."""
    known = set(special)
    return next(number for number in range(len(known) + 1) if number not in known)


def continues(tokenizer: Tokenizer, *, size: int | None = None) -> NDArray[np.bool_]:
    """[vocabulary] bool: the piece continues the word or the mark before it.

    In byte-level BPE and SentencePiece it is every piece that begins with a letter or a digit and
    brings no blank: of a text's first word, and of one after a bracket or a line's end, also the
    first piece. Whoever groups words starts one after every piece that is no letter or digit.

    Args:
        tokenizer: any; special pieces continue nothing.
        size: rows, where the embedding table has more than the tokenizer has pieces.
    """
    vocabulary = tokenizer.get_vocab()
    found = np.zeros(max(size or 0, 1 + max(vocabulary.values(), default=-1)), dtype=np.bool_)
    if isinstance(tokenizer.model, WordPiece):
        prefix = tokenizer.model.continuing_subword_prefix
        mine = [i for p, i in vocabulary.items() if p.startswith(prefix) and p != prefix]
    else:
        in_bytes = any(piece.startswith(BLANK_OF_BYTES) for piece in vocabulary)
        mine = [i for p, i in vocabulary.items() if not _begins(p, in_bytes=in_bytes)]
    found[mine] = True
    found[[i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]] = False
    return found


def _begins(piece: str, *, in_bytes: bool) -> bool:
    first = piece[:1]
    # Byte-level BPE writes the blanks and control characters 0 to 32 as U+0100 to U+0120.
    is_blank = "\u0100" <= first <= BLANK_OF_BYTES if in_bytes else first == BLANK_OF_SENTENCES
    return is_blank or (first.isascii() and not first.isalnum())


def plain(piece: str) -> str:
    """A piece without what marks where it stands in its word."""
    return piece.removeprefix("##").lstrip(BLANK_OF_BYTES + BLANK_OF_SENTENCES)


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
