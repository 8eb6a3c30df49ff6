"""A WordPiece tokenizer trained on the notes of train, without what would name a patient."""

from clinical.errors import ConfigError
from clinical.modalities.tokenizer import SPELLINGS, special_ids

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer

SPECIAL = {role: usual[0] for role, usual in SPELLINGS.items()}
"""Role of a special piece -> how BERT spells it."""

PRINTABLE = [chr(code) for code in range(33, 127) if not chr(code).isupper()]

WORDS_IN_TRAINING = 5_000_000
"""Above so many words the counts are scaled down; merges follow frequencies, not counts."""

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
