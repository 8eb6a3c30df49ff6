"""Clinical notes as chunks of word pieces, and as what counted phrases say."""

from clinical.cohort.columns import Ragged
from clinical.containers import Tokens
from clinical.errors import ConfigError
from clinical.modalities.choosing import Chooser
from clinical.modalities.chunk_table import ChunkTable
from clinical.modalities.chunks import Chunker, overlap_of
from clinical.modalities.contract import Counts, Frames, Statistics, nonzero
from clinical.modalities.frequent import frequent_codes
from clinical.modalities.occurrences import (
    Array,
    OccurrencesReader,
    Seen,
    newest,
    write_entries,
    write_seen,
)
from clinical.modalities.phrases import Phrases, Spelling
from clinical.modalities.sentences import Wordings
from clinical.modalities.tokenizer import leading, parse, special_ids, special_pieces
from clinical.modalities.train_notes import frequent_words, records, with_text
from clinical.modalities.weights_folder import read_weights
from clinical.modalities.wordpiece import train

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

NAME = "notes"
MOST_CHARACTERS = 20_000_000
"""Text from which phrases are learned, at most, or memory would grow with the cohort."""
CHUNKS_AT_ONCE = 2048
"""Written together."""


@dataclass(frozen=True)
class ReadChunk:
    """A chunk of a sample as the encoder reads it, and where it stands in the text.

    Attributes:
        note: which of the given notes it is of.
        chunk: which chunk of its note it is, from 0.
        ids: [L] int32 word pieces, as a row of `Tokens` has them.
        spans: [L, 2] int32, from which character of the note to which each piece stands; 0, 0 for
            the start and the end piece.
    """

    note: int
    chunk: int
    ids: NDArray[np.int32]
    spans: NDArray[np.int32]


class Notes:
    """The newest notes of a sample, in overlapping chunks of word pieces.

    The tokenizer is that of `weights`, or is trained on the train notes from the words that
    enough subjects use: names, telephone numbers and slips of the pen of a few people don't
    become pieces.

    Copied-forward lines stay unless `drop_copied` says otherwise: "remains intubated and sedated"
    may be copied, and may be today's finding in yesterday's words. Without it the newest notes no
    longer say what is still so. It pays where copies push older notes past the caps.

    Args:
        codes: Which events are notes: codes, or regular expressions that fit them end to end.
        max_tokens: Word pieces of a chunk, its start and end pieces included. Longer notes become
            several chunks, which end where sentences or lines do if that wastes no more than a
            quarter.
        overlap: Pieces that successive chunks share, about, at most a quarter of a chunk; null
            for an eighth.
        max_notes: The newest notes of a sample that are kept.
        max_chunks: Chunks of a sample that are kept: the newest notes whole, as many as fit, and
            of the one before them its beginning. Of a newest note that alone has more, its end
            (often assessment and plan) is not read and counts as `left_out_chunks`.
        drop_copied: Leave out lines of five words or more, whatever their blanks and case, that
            stand already in an earlier note which the same sample reads whole.
        vocabulary: Pieces of a trained tokenizer, at most.
        min_subjects: Train subjects who must use a word before the tokenizer learns from it, a
            phrase before it is counted, or a code before it is a kind of note.
        phrases: Directions at most on which the sentences of a record agree (`phrases.py`).
        topics: Directions at most of what phrases say of a note as a whole (`topics.py`), and at
            most one for each `min_subjects` train subjects; some 100 or more pay where a word
            states what is asked for, and cost where it is the order of words that tells.
        weights: Local folder of a model of the BERT family (WordPiece or byte-level BPE), whose
            tokenizer and architecture are used.
    """

    shaping: ClassVar[frozenset[str]] = frozenset({"max_tokens", "phrases", "topics"})

    def __init__(
        self,
        *,
        codes: Sequence[str] = (),
        max_tokens: int = 256,
        overlap: int | None = None,
        max_notes: int = 8,
        max_chunks: int = 16,
        drop_copied: bool = False,
        vocabulary: int = 4000,
        min_subjects: int = 10,
        phrases: int = 32,
        topics: int = 0,
        weights: Path | None = None,
    ) -> None:
        numbers = (max_notes, max_chunks, vocabulary, min_subjects)
        if max_tokens < 3 or min(numbers) < 1 or min(phrases, topics) < 0:
            raise ConfigError(
                "notes: max_tokens must be at least 3; max_notes, max_chunks, vocabulary and "
                "min_subjects at least 1, and phrases and topics not negative"
            )
        overlap_of(max_tokens, overlap)
        self.codes = codes
        self.max_tokens = max_tokens
        self.overlap = overlap
        self.max_notes = max_notes
        self.max_chunks = max_chunks
        self.drop_copied = drop_copied
        self.vocabulary = vocabulary
        self.min_subjects = min_subjects
        self.phrases = phrases
        self.topics = topics
        self.weights = weights

    def fit(
        self,
        shards: Frames,
        *,
        seed: int,
        codes: pl.DataFrame | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> Statistics:
        """The tokenizer, trained or read, the kinds and the phrases; what codes are is not used.

        Returns:
            `tokenizer` (its JSON), `special_pieces` (all ids that are no text), `kinds` (codes;
            the row is one more than the place), `phrases`, `sizes`, and with weights `config`,
            their config.json.
        """
        statistics: Statistics = {}
        if self.weights is None:
            counts = frequent_words(shards(), min_subjects=self.min_subjects)
            tokenizer = train(counts, vocabulary=self.vocabulary)
            roles, sizes = special_ids(tokenizer), {"vocabulary": tokenizer.get_vocab_size()}
        else:
            read = read_weights(self.weights, where="modalities.notes.weights")
            tokenizer, roles, sizes = read.tokenizer, read.roles, read.sizes
            statistics["config"] = read.config
        if self.max_tokens > sizes.get("positions", self.max_tokens):
            raise ConfigError(
                f"modalities.notes.max_tokens: {self.max_tokens} is more than the "
                f"{sizes['positions']} positions of the weights; set it to that or less"
            )
        special = special_pieces(tokenizer, roles, size=sizes["vocabulary"])
        kinds = frequent_codes(map(with_text, shards()), min_subjects=self.min_subjects)
        sizes |= roles | {"special": leading(special), "max_tokens": self.max_tokens}
        statistics |= {"tokenizer": tokenizer.to_str(), "special_pieces": special, "kinds": kinds}
        statistics["sizes"] = sizes | {"kinds": 1 + len(kinds)}
        phrases = self._fit_phrases(shards, statistics, seed=seed)
        statistics["sizes"] |= phrases.sizes
        return statistics | {"phrases": phrases.to_json()}

    def _fit_phrases(self, shards: Frames, statistics: Statistics, *, seed: int) -> Phrases:
        counted = self.phrases or self.topics
        notes = records(shards if counted else list, most=MOST_CHARACTERS, seed=seed)
        chunker, tokenizer = self._chunker(statistics), _tokenizer(statistics)
        return Phrases.fit(
            list(chunker.whole(notes["text_value"].to_list())),
            notes["record"].to_numpy(),
            notes["subject"].to_numpy(),
            width=self.phrases,
            topics=self.topics,
            min_subjects=self.min_subjects,
            spelling=Spelling.of(tokenizer.get_vocab(), special=statistics["special_pieces"]),
            seed=seed,
        )

    def _chunker(self, statistics: Statistics) -> Chunker:
        sizes = statistics["sizes"]
        return Chunker(
            _tokenizer(statistics),
            cls=sizes["cls"],
            sep=sizes["sep"],
            max_tokens=sizes["max_tokens"],
            overlap=self.overlap,
        )

    def _chooser(self, statistics: Statistics) -> Chooser:
        return Chooser(self._chunker(statistics), self.max_chunks, self.drop_copied)

    def sizes(self, statistics: Statistics) -> dict[str, int]:
        """`vocabulary, max_tokens, phrases, topics, kinds, pad, unknown, cls, sep, mask, special`.

        Every id below `special` is a special piece; with weights others may be as well, which
        `special_pieces` of the statistics names. With weights also `hidden_size, layers, heads,
        intermediate`, and where they have them `positions, types`.
        """
        return dict(statistics["sizes"])

    def variables(self, statistics: Statistics) -> Sequence[str]:
        """None."""
        return ()

    def entries(self, statistics: Statistics) -> Sequence[str | None]:
        """Unknown, then the kinds."""
        return (None, *statistics["kinds"])

    def adopt(self, own: Statistics, given: Statistics) -> Statistics:
        """The tokenizer and the phrases of `given`, and the kinds learned here.

        Word pieces are rows of the weights, and directions of phrases their columns.
        """
        where = "modalities.notes.weights"
        if ("config" in own) != ("config" in given):
            ours, theirs = ("given" if "config" in each else "learned" for each in (own, given))
            raise ConfigError(
                f"{where}: the tokenizer is {ours} here and {theirs} in the bundle; give the same "
                "weights as the bundle's run had"
            )
        is_given = "config" in given
        if is_given and (own["config"], own["tokenizer"]) != (given["config"], given["tokenizer"]):
            raise ConfigError(f"{where}: are of another model than the bundle's; give the same")
        kept = ("tokenizer", "special_pieces", "phrases")
        sizes = {**given["sizes"], "kinds": own["sizes"]["kinds"]}
        return {**own, **{name: given[name] for name in kept}, "sizes": sizes}

    def write(
        self,
        visible: pl.DataFrame,
        n_samples: int,
        statistics: Statistics,
        folder: Path,
        *,
        read_image: Callable[[str], Path],
        workers: int = 1,
        codes: pl.DataFrame | None = None,
    ) -> Counts:
        """Write one shard: each chunk once, and which samples read it.

        Returns:
            `empty` of the distinct notes. Once a sample: `left_out_notes`, older than the newest
            that fit; `left_out_chunks` of the oldest note that is kept; `copied_lines` that were
            left out, and `copied_notes` of which nothing else was left.
        """
        worded = with_text(visible)
        kept = newest(worded, self.max_notes)
        notes = kept.unique("event").sort("event")
        chooser = self._chooser(statistics)
        lines = Wordings() if self.drop_copied else None
        pieces = chooser.chunker.read(notes["text_value"].to_list(), lines=lines)
        table = ChunkTable(chooser, dict(zip(notes["event"].to_list(), pieces, strict=True)))
        chunks = table.add(kept)
        kinds = {code: number for number, code in enumerate(statistics["kinds"], start=1)}
        kind = dict(zip(notes["event"], (kinds.get(c, 0) for c in notes["code"]), strict=True))
        phrases = Phrases.from_json(statistics["phrases"])
        write_entries(_blocks(table, kind, phrases), folder / NAME)
        write_seen(chunks, n_samples, np.arange(len(table.ids)), folder / NAME)
        left_out = worded.height - kept.height + table.counts["left_out_notes"]
        empty = visible["event"].n_unique() - worded["event"].n_unique()
        return nonzero({**table.counts, "empty": empty, "left_out_notes": left_out})

    def read(self, texts: Sequence[str], statistics: Statistics) -> list[ReadChunk]:
        """What a sample reads that sees these notes, as `write` and `collate` make it.

        For explanations, which draw over the text: nothing of it is in the store.

        Args:
            texts: The visible notes of one sample, oldest first; those of which it reads nothing
                may be left out.
            statistics: Of `fit`.
        """
        worded = [number for number, text in enumerate(texts) if text.strip()]
        worded = worded[-self.max_notes :]
        chooser = self._chooser(statistics)
        notes = list(chooser.chunker.read([texts[n] for n in worded], lines=Wordings()))
        found = []
        for number, note, chunks in zip(worded, notes, chooser.choose(notes).chunks, strict=True):
            spans = chooser.chunker.spans(texts[number])
            for chunk, places in enumerate(chunks):
                ids = chooser.chunker.with_ends(note.ids[places])
                found.append(ReadChunk(number, chunk, ids, np.pad(spans[places], ((1, 1), (0, 0)))))
        return found

    def open(self, folders: Sequence[Path], statistics: Statistics) -> "NotesReader":
        """Read back what `write` left in `folders`."""
        return NotesReader(folders, pad=statistics["sizes"]["pad"])


def _blocks(
    table: ChunkTable, kind: Mapping[int, int], phrases: Phrases
) -> Iterator[dict[str, Array | Ragged]]:
    """The entries of chunks, some at a time: what counts their phrases is far larger than they."""
    for start in range(0, max(len(table.ids), 1), CHUNKS_AT_ONCE):
        some = slice(start, start + CHUNKS_AT_ONCE)
        ids, event = table.ids[some], table.event[some]
        lengths = np.array([len(pieces) for pieces in ids], dtype=np.int64)
        block: dict[str, Array | Ragged] = {
            "event": np.array(event, dtype=np.int64),
            "ids": Ragged.from_lengths(np.concatenate([np.empty(0, np.int32), *ids]), lengths),
            "chunk": np.array(table.number[some], dtype=np.int32),
            "kind": np.array([kind[number] for number in event], dtype=np.int32),
        }
        yield block | ({"phrases": phrases.apply(ids)} if phrases.width else {})


def _tokenizer(statistics: Statistics) -> Tokenizer:
    return parse(statistics["tokenizer"], where="statistics.json")


class NotesReader(OccurrencesReader):
    """Stored chunks of notes of all shards."""

    def __init__(self, folders: Sequence[Path], *, pad: int) -> None:
        super().__init__(folders, NAME)
        self._pad = pad

    def container(self, seen: Seen, size: int, *, encoded: Array | None) -> Tokens:
        """Chunks padded to the longest; without their word pieces where they are encoded."""
        entries, rows = self._stored.entries, len(seen.entry)
        if encoded is None:
            ids, mask = entries["ids"].take_ragged(seen.entry).padded(self._pad)
        else:
            ids, mask = np.zeros((rows, 0), dtype=np.int32), np.zeros((rows, 0), dtype=np.bool_)
        nothing = np.zeros((rows, 0), dtype=np.float32)
        phrases = entries["phrases"].take(seen.entry) if "phrases" in entries else nothing
        return Tokens(
            ids=torch.from_numpy(ids).long(),
            mask=torch.from_numpy(mask),
            time_hours=torch.from_numpy(seen.hours),
            kind=torch.from_numpy(entries["kind"].take(seen.entry)).long(),
            chunk=torch.from_numpy(entries["chunk"].take(seen.entry)).long(),
            sample=torch.from_numpy(seen.sample),
            size=size,
            phrases=torch.from_numpy(phrases),
            encoded=None if encoded is None else torch.from_numpy(encoded),
        )
