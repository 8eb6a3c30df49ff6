"""The chunks that the samples of a shard read, each stored once however many samples read it."""

from clinical.modalities.choosing import Chooser, Places
from clinical.modalities.chunks import Ids, NotePieces

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import polars as pl


class ChunkTable:
    """Fills with the chunks of the samples that are added.

    Args:
        chooser: What a sample reads of its notes.
        notes: By event.

    Attributes:
        ids: [R] the word pieces of each chunk, start and end pieces included.
        event: [R] the note of each chunk.
        number: [R] which chunk of its note it is, from 0.
        counts: What was left out, once a sample.
    """

    def __init__(self, chooser: Chooser, notes: Mapping[int, NotePieces]) -> None:
        self.ids: list[Ids] = []
        self.event: list[int] = []
        self.number: list[int] = []
        self.counts: Counter[str] = Counter()
        self._chooser, self._notes = chooser, notes
        # Predictions that roll on mostly see the same notes again.
        self._chosen: dict[tuple[int, ...], tuple[dict[str, int], list[tuple[int, int]]]] = {}
        self._rows: dict[tuple[int, int, bytes], int] = {}

    def add(self, kept: pl.DataFrame) -> pl.DataFrame:
        """The chunks of the samples' notes.

        Args:
            kept: `sample, event, hours`, sorted by sample and time.

        Returns:
            The same columns, one row for each sample and chunk; `event` is the chunk's row here.
        """
        found: list[tuple[int, int, float | None]] = []
        notes = kept.group_by("sample", maintain_order=True).agg("event", "hours")
        for sample, events, hours in notes.iter_rows():
            rows = self._read(tuple(events))
            found.extend((sample, row, hours[note]) for note, row in rows)
        schema = {"sample": pl.Int64, "event": pl.Int64, "hours": pl.Float64}
        return pl.DataFrame(found, schema=schema, orient="row")

    def _read(self, events: tuple[int, ...]) -> Sequence[tuple[int, int]]:
        """Which of the notes [C] and which row [C] the chunks of a sample with these notes are."""
        if events not in self._chosen:
            choice = self._chooser.choose([self._notes[event] for event in events])
            rows = [
                (note, self._row(events[note], number, places))
                for note, chunks in enumerate(choice.chunks)
                for number, places in enumerate(chunks)
            ]
            self._chosen[events] = choice.counts, rows
        counts, rows = self._chosen[events]
        self.counts.update(counts)
        return rows

    def _row(self, event: int, number: int, places: Places) -> int:
        # The same pieces of the same note: one chunk, whatever was left out around it.
        key = event, number, hashlib.blake2b(places.tobytes(), digest_size=16).digest()
        if key not in self._rows:
            self._rows[key] = len(self.ids)
            ids = self._notes[event].ids[places]
            self.ids.append(self._chooser.chunker.with_ends(ids))
            self.event.append(event)
            self.number.append(number)
        return self._rows[key]
