"""From word pieces back to the words of the real note."""

from clinical.modalities.notes import ReadChunk
from clinical.modalities.phrases import Phrases

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

REST = -1
"""The word of pieces that stand for no text: start, end and padding."""


@dataclass(frozen=True)
class Pieces:
    """A chunk of a note as its encoder reads it, and where in the text each piece stands.

    Attributes:
        ids: [L] int32.
        word: [L] int64, number in its note of the word that the piece is of; `REST` for none.
        start, end: [L] int64, characters of the text, the end not included.
    """

    ids: NDArray[np.int32]
    word: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str], chunks: Sequence[ReadChunk]) -> list[Self]:
        """Of the chunks of a sample, as `Notes.read` gives them of its notes."""
        found = {}
        for note in {chunk.note for chunk in chunks}:
            # A word has one place however the chunks cut it, and however many bytes a letter has.
            spans = np.concatenate([chunk.spans for chunk in chunks if chunk.note == note])
            known = np.unique(spans, axis=0)
            found[note] = known, np.stack(word_spans(texts[note], known.astype(np.int64)), axis=1)
        pieces = []
        for chunk in chunks:
            known, words = found[chunk.note]
            place = np.searchsorted(_order(known), _order(chunk.spans))
            pieces.append(cls(chunk.ids, *words[place].T))
        return pieces


def _order(spans: NDArray[np.int32]) -> NDArray[np.int64]:
    """[L] one number a span, ascending by its start and then its end."""
    return (spans[:, 0].astype(np.int64) << 32) + spans[:, 1]


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
