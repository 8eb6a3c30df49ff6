"""From word pieces back to the words of the real note."""

from clinical.modalities.phrases import Phrases
from clinical.modalities.tokenizer import encode_starts

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

REST = -1
"""The word of pieces that stand for no text: start, end and padding."""


@dataclass(frozen=True)
class Pieces:
    """A chunk of a note as its encoder reads it, and where in the text each piece stands.

    Attributes:
        ids: [L] int32.
        word: [L] int64, number of the word that the piece is of; `REST` for none.
        start, end: [L] int64, characters of the text, the end not included.
    """

    ids: NDArray[np.int32]
    word: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str, *, limit: int) -> Self:
        """The first pieces of a text, as `Notes.write` stores them."""
        (ids,), _ = encode_starts(tokenizer, [text], limit=limit)
        encoding = tokenizer.encode(text)
        # The last piece kept is the end of the note, wherever the text was cut.
        kept = [*range(len(ids) - 1), len(encoding.ids) - 1]
        spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)[kept]
        return cls(ids, *word_spans(text, spans))


def word_spans(
    text: str, spans: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """[L] the word of each piece, and [L] where it starts and ends without blanks around it.

    A word is a run of letters and digits, or one other character; the pieces of a run that is
    broken by nothing are one word's.

    Args:
        text: of the whole note.
        spans: [L, 2] characters of each piece in order; empty for pieces that are no text.
    """
    word, start, end = np.full(len(spans), REST), spans[:, 0].copy(), spans[:, 1].copy()
    number, reached, is_open = REST, -1, False
    for place, (first, last) in enumerate(spans.tolist()):
        own = text[first:last]
        if not own.strip():
            continue
        first += len(own) - len(own.lstrip())
        last -= len(own) - len(own.rstrip())
        goes_on = is_open and first == reached and text[first].isalnum()
        number += not goes_on
        reached, is_open = last, text[last - 1].isalnum()
        word[place], start[place], end[place] = number, first, last
    return word, start, end


def by_word(
    pieces: Pieces,
    values: NDArray[np.float64],
    *,
    phrases: Phrases,
    told: NDArray[np.float64],
    slope: NDArray[np.float64],
) -> pl.DataFrame:
    """What the words of a chunk of a note add to a logit.

    Args:
        pieces: [L] of the chunk.
        values: [L] what each piece adds, by its vector.
        phrases: the counted ones.
        told: [K] what they say of the chunk.
        slope: [K] gradient of the logit by that.

    Returns:
        start, end (null for what is in no word), pieces and phrases, the two ways in which a word
        adds to the logit.
    """
    spread = phrases.share_out(pieces.ids, slope) if phrases.width else np.zeros(len(values))
    frame = pl.DataFrame(
        {
            "word": pieces.word,
            "start": pieces.start,
            "end": pieces.end,
            "pieces": values,
            "phrases": spread,
        }
    )
    is_word = pl.col("word") != REST
    words = frame.group_by("word", maintain_order=True).agg(
        pl.when(is_word).then("start").min().alias("start"),
        pl.when(is_word).then("end").max().alias("end"),
        pl.col("pieces", "phrases").sum(),
    )
    left = float(told @ slope - spread.sum())
    rest = pl.DataFrame(
        {"word": [REST], "start": [None], "end": [None], "pieces": [0.0], "phrases": [left]},
        schema=words.schema,
    )
    whole = (
        pl.concat([words, rest])
        .group_by("start", "end", maintain_order=True)
        .agg(pl.col("pieces", "phrases").sum())
    )
    return whole.sort("start", nulls_last=True)
