"""Which of its notes a sample reads, and what of each: a function of these notes alone.

A line that stood already in an earlier note may be left out of a later one, but only where that
earlier note is read whole by the same sample. One that has fallen out of the window, or past
`max_notes` or `max_chunks`, takes nothing with it: whatever the prediction time, every wording of
the notes that are read whole is read at least once.
"""

from clinical.modalities.chunks import Chunker, NotePieces

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """What a sample reads.

    Attributes:
        chunks: of each note, oldest first, its chunks: which of its pieces each has. None of a
            note that is left out or wholly copied.
        counts: `left_out_notes`, `left_out_chunks`, `copied_lines`, `copied_notes`.
    """

    chunks: list[list[Places]]
    counts: dict[str, int]


@dataclass(frozen=True)
class Chooser:
    """Keeps the newest notes whole, as many as fit, and of the one before them its beginning.

    Args:
        chunker: cuts notes.
        max_chunks: of a sample, at most.
        drop_copied: leave out lines that an earlier note has.
    """

    chunker: Chunker
    max_chunks: int
    drop_copied: bool

    def choose(self, notes: Sequence[NotePieces]) -> Choice:
        """Of the notes of a sample, oldest first."""
        # A step for each note that doesn't fit: what is copied depends on where reading begins.
        for first in range(len(notes) + 1):
            kept, n_lines = self._without_copies(notes[first:])
            chunks = [
                self.chunker.cut(note, places) if len(places) or not len(note.ids) else []
                for note, places in zip(notes[first:], kept, strict=True)
            ]
            if (room := self.max_chunks - sum(map(len, chunks))) >= 0:
                break
        begun = self.chunker.cut(notes[first - 1], _all(notes[first - 1])) if first else []
        has_begun = bool(begun[:room])
        counts = {
            "left_out_notes": first - has_begun,
            "left_out_chunks": len(begun[room:]) if has_begun else 0,
            "copied_lines": n_lines,
            "copied_notes": sum(not found for found in chunks),
        }
        left_out: list[list[Places]] = [[] for _ in range(first - has_begun)]
        return Choice([*left_out, *([begun[:room]] if has_begun else []), *chunks], counts)

    def _without_copies(self, notes: Sequence[NotePieces]) -> tuple[list[Places], int]:
        """The pieces that stay of each note, and how many lines were left out."""
        if not self.drop_copied:
            return [_all(note) for note in notes], 0
        earlier: set[int] = set()
        kept, n_lines = [], 0
        for note in notes:
            said = note.wording.tolist()
            is_copy = np.array([wording in earlier for wording in said], dtype=np.bool_)
            kept.append(np.flatnonzero(~is_copy[note.line]))
            n_lines += int(is_copy.sum())
            earlier.update(wording for wording in said if wording >= 0)
        return kept, n_lines


def _all(note: NotePieces) -> Places:
    return np.arange(len(note.ids))
