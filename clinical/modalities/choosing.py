"""Which of its notes a sample reads, and what of each: a function of these notes alone.

A line that stood already in an earlier note may be left out of a later one, but only where that
earlier note is read whole by the same sample. One that has fallen out of the window, or past
`max_notes` or `max_chunks`, takes nothing with it: whatever the prediction time, every wording of
the notes that are read whole is read at least once.
"""

from clinical.modalities.chunks import Chunker, NotePieces

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

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
    # Predictions that roll on read the same notes again, mostly with the same lines left out.
    _cut: dict[tuple[NotePieces, bytes], list[tuple[int, int]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def choose(self, notes: Sequence[NotePieces]) -> Choice:
        """Of the notes of a sample, oldest first."""
        first = self._first(notes)
        kept, n_lines = self._without_copies(notes[first:])
        chunks = [self._chunks(*pair) for pair in zip(notes[first:], kept, strict=True)]
        room = self.max_chunks - sum(map(len, chunks))
        begun = self._chunks(notes[first - 1], _all(notes[first - 1])) if first else []
        has_begun = bool(begun[:room])
        counts = {
            "left_out_notes": first - has_begun,
            "left_out_chunks": len(begun[room:]) if has_begun else 0,
            "copied_lines": n_lines,
            "copied_notes": sum(not found for found in chunks),
        }
        left_out: list[list[Places]] = [[] for _ in range(first - has_begun)]
        return Choice([*left_out, *([begun[:room]] if has_begun else []), *chunks], counts)

    def _first(self, notes: Sequence[NotePieces]) -> int:
        """The oldest note that can be read whole together with all newer ones.

        Backwards: a note takes its lines from the next one that has them, and only what has lost
        some is cut again. It may make room so; without `drop_copied` nothing can.
        """
        stays = [np.ones(len(note.wording), dtype=np.bool_) for note in notes]
        n_chunks = [0] * len(notes)
        oldest: dict[int, int] = {}
        found = len(notes)
        for first in reversed(range(len(notes))):
            said = set(notes[first].wording.tolist()) - {-1} if self.drop_copied else set()
            taken: dict[int, list[int]] = defaultdict(list, {first: []})
            for wording in said & oldest.keys():
                taken[oldest[wording]].append(wording)
            oldest.update(dict.fromkeys(said, first))
            for number, wordings in taken.items():
                note = notes[number]
                stays[number] &= ~np.isin(note.wording, wordings)
                n_chunks[number] = len(self._chunks(note, np.flatnonzero(stays[number][note.line])))
            if sum(n_chunks) <= self.max_chunks:
                found = first
            elif not self.drop_copied:
                break
        return found

    def _chunks(self, note: NotePieces, kept: Places) -> list[Places]:
        """What `cut` makes of a note; nothing of one that is wholly copied."""
        if not len(kept) and len(note.ids):
            return []
        key = note, hashlib.blake2b(kept.tobytes(), digest_size=16).digest()
        if key not in self._cut:
            self._cut[key] = self.chunker.bounds(note, kept)
        return [kept[start:stop] for start, stop in self._cut[key]]

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
