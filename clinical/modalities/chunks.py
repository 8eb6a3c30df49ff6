"""Notes as word pieces, cut into overlapping chunks that end where sentences do."""

from clinical.errors import ConfigError
from clinical.modalities.sentences import Wordings, sentence_starts
from clinical.modalities.tokenizer import continues

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

Ids = NDArray[np.int32]

AT_ONCE = 64
"""Notes whose encodings are in memory together; they are far larger than their pieces."""


@dataclass(frozen=True, eq=False)
class NotePieces:
    """A whole note as word pieces, without start and end pieces; equal to itself alone.

    Attributes:
        ids: [n] int32.
        line: [n] int32, the sentence or line that each piece begins in; zeros where nobody asks.
        wording: [S] int64, what each of them says (`Wordings`); -1 where it is too short to tell.
    """

    ids: Ids
    line: Ids
    wording: NDArray[np.int64]


def overlap_of(max_tokens: int, overlap: int | None) -> int:
    """Pieces that successive chunks share, about: as asked for, or an eighth of a chunk.

    Raises:
        ConfigError: it is more than a quarter of a chunk, so that each would bring little new.
    """
    found, most = max_tokens // 8 if overlap is None else overlap, (max_tokens - 2) // 4
    if not 0 <= found <= most:
        raise ConfigError(
            f"modalities.notes.overlap: {found} does not lie between 0 and {most}, a quarter of "
            "max_tokens; change either"
        )
    return found


class Chunker:
    """Reads notes as word pieces and cuts them; what it makes of a note depends on no other.

    A chunk ends with the last sentence or line that fits, unless a quarter of it would stay empty;
    then with the last word that fits. The next one begins about `overlap` pieces before that end,
    at a sentence again if there is one near.

    Args:
        tokenizer: as `parse` gives it.
        cls, sep: ids of the pieces that open and close a chunk.
        max_tokens: pieces of a chunk, those two included.
        overlap: pieces that successive chunks share, about (`overlap_of`).
    """

    def __init__(
        self, tokenizer: Tokenizer, *, cls: int, sep: int, max_tokens: int, overlap: int | None
    ) -> None:
        self.room = max_tokens - 2
        self.overlap = overlap_of(max_tokens, overlap)
        self._tokenizer = tokenizer
        self._cls, self._sep = np.int32(cls), np.int32(sep)
        self._continues = continues(tokenizer)

    def read(self, texts: Sequence[str], *, lines: Wordings | None) -> Iterator[NotePieces]:
        """The pieces of each text.

        Args:
            texts: notes.
            lines: numbers what their lines say; None where no copies are looked for.
        """
        for start in range(0, len(texts), AT_ONCE):
            some = list(texts[start : start + AT_ONCE])
            encoded = self._tokenizer.encode_batch(some, add_special_tokens=False)
            for text, encoding in zip(some, encoded, strict=True):
                yield self._pieces(text, encoding, lines)

    def _pieces(self, text: str, encoding: Encoding, lines: Wordings | None) -> NotePieces:
        ids = np.array(encoding.ids, dtype=np.int32)
        if lines is None and len(ids) <= self.room:
            return NotePieces(ids, np.zeros_like(ids), np.full(1, -1))
        starts = sentence_starts(text)
        # By its end: a piece may bring the blank before it.
        last = np.maximum.accumulate(_spans(encoding)[:, 1]) - 1
        line = (np.searchsorted(starts, last, side="right") - 1).clip(0).astype(np.int32)
        wording = np.full(len(starts), -1) if lines is None else lines.of(text, starts)
        return NotePieces(ids, line, wording)

    def whole(self, texts: Sequence[str]) -> Iterator[Ids]:
        """The pieces of each text between a start and an end piece, however many they are."""
        for start in range(0, len(texts), AT_ONCE):
            some = list(texts[start : start + AT_ONCE])
            for encoding in self._tokenizer.encode_batch_fast(some, add_special_tokens=False):
                yield self.with_ends(np.array(encoding.ids, dtype=np.int32))

    def spans(self, text: str) -> Ids:
        """[n, 2] int32: from which character to which each piece of a note stands."""
        return _spans(self._tokenizer.encode(text, add_special_tokens=False))

    def cut(self, note: NotePieces, kept: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The chunks of a note: which of its pieces each has.

        Args:
            note: whole.
            kept: [m] the pieces that are not left out, ascending.
        """
        return [kept[start:stop] for start, stop in self.bounds(note, kept)]

    def bounds(self, note: NotePieces, kept: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Where among the kept pieces [m] of a note each of its chunks begins and ends."""
        if len(kept) <= self.room:
            return [(0, len(kept))]
        sentences = np.flatnonzero(np.diff(note.line[kept], prepend=-1))
        words = np.flatnonzero(~self._continues[note.ids[kept]])
        found, start = [], 0
        while len(kept) - start > self.room:
            end = start + self.room
            least = end - self.room // 4
            stop = next((s for s in (_last(p, least, end) for p in (sentences, words)) if s), end)
            found.append((start, stop))
            start = self._back(stop, sentences, words)
        return [*found, (start, len(kept))]

    def _back(self, stop: int, sentences: NDArray[np.int64], words: NDArray[np.int64]) -> int:
        """Where the chunk after one that ends at `stop` begins."""
        wanted = stop - self.overlap
        low, high = np.searchsorted(sentences, [wanted - self.overlap, stop])
        if high > low:
            near = sentences[low:high]
            return int(near[np.abs(near - wanted).argmin()])
        return _last(words, wanted - self.overlap, wanted) or wanted

    def with_ends(self, ids: Ids) -> Ids:
        """Pieces between the start and the end piece."""
        return np.concatenate([[self._cls], ids, [self._sep]], dtype=np.int32)


def _spans(encoding: Encoding) -> Ids:
    return np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)


def _last(places: NDArray[np.int64], low: int, high: int) -> int | None:
    """The last of ascending places from `low` to `high`, both included."""
    number = int(np.searchsorted(places, high, side="right")) - 1
    return int(places[number]) if number >= 0 and places[number] >= low else None
