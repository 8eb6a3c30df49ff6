"""Clinical notes as word pieces, and as what counted phrases say."""

from clinical.cohort.columns import Ragged
from clinical.containers import Tokens
from clinical.errors import ConfigError
from clinical.modalities.contract import Counts, Frames, Statistics, nonzero
from clinical.modalities.occurrences import (
    Array,
    OccurrencesReader,
    Seen,
    newest,
    write_occurrences,
)
from clinical.modalities.phrases import Phrases, Spelling
from clinical.modalities.tokenizer import (
    architecture,
    encode_starts,
    parse,
    read_weights,
    special_ids,
    train,
    words,
)

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from tokenizers import Tokenizer

NAME = "notes"
MOST_PIECES = 5_000_000
"""Word pieces from which phrases are learned, at most, or memory would grow with the cohort."""


class Notes:
    """The newest notes of a sample, each cut to its first word pieces.

    The tokenizer is that of `weights`, or is trained on the train notes from the words that
    enough subjects use: names, telephone numbers and slips of the pen of a few people don't
    become pieces.

    Args:
        codes: Which events are notes: codes, or regular expressions that fit them end to end.
        max_tokens: Word pieces of a note that are kept, its start and end pieces included.
        max_notes: The newest notes of a sample that are kept.
        vocabulary: Pieces of a trained tokenizer, at most.
        min_subjects: Train subjects who must use a word before the tokenizer learns from it, or
            a phrase before it is counted.
        phrases: Width of what counted phrases say (`phrases.py`), at most; 0 for no such thing.
        weights: Local folder of BERT weights, whose tokenizer and architecture are used.
    """

    def __init__(
        self,
        *,
        codes: Sequence[str] = (),
        max_tokens: int = 256,
        max_notes: int = 4,
        vocabulary: int = 4000,
        min_subjects: int = 10,
        phrases: int = 32,
        weights: Path | None = None,
    ) -> None:
        if max_tokens < 3 or min(max_notes, vocabulary, min_subjects) < 1 or phrases < 0:
            raise ConfigError(
                "notes: max_tokens must be at least 3; max_notes, vocabulary and min_subjects "
                "at least 1, and phrases not negative"
            )
        self.codes = codes
        self.max_tokens = max_tokens
        self.max_notes = max_notes
        self.vocabulary = vocabulary
        self.min_subjects = min_subjects
        self.phrases = phrases
        self.weights = weights

    def fit(
        self,
        shards: Frames,
        *,
        seed: int,
        codes: pl.DataFrame | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> Statistics:
        """The tokenizer, trained or read, and the phrases; what codes are is not used."""
        if self.weights is None:
            counts = frequent_words(shards(), min_subjects=self.min_subjects)
            tokenizer = train(counts, vocabulary=self.vocabulary)
            sizes = {"vocabulary": tokenizer.get_vocab_size()}
        else:
            tokenizer, sizes = read_weights(self.weights)
        if self.max_tokens > sizes.get("positions", self.max_tokens):
            raise ConfigError(
                f"modalities.notes.max_tokens: {self.max_tokens} is more than the "
                f"{sizes['positions']} positions of the weights; set it to that or less"
            )
        sizes |= special_ids(tokenizer) | {"max_tokens": self.max_tokens}
        phrases = self._fit_phrases(shards, tokenizer, first_word=sizes["special"], seed=seed)
        sizes["phrases"] = phrases.width
        learned = {"tokenizer": tokenizer.to_str(), "sizes": sizes, "phrases": phrases.to_json()}
        return (
            learned if self.weights is None else {**learned, "config": architecture(self.weights)}
        )

    def _fit_phrases(
        self, shards: Frames, tokenizer: Tokenizer, *, first_word: int, seed: int
    ) -> Phrases:
        most = MOST_PIECES // self.max_tokens
        notes = _train_notes(shards if self.phrases else list, most=most, seed=seed)
        pieces, _ = encode_starts(tokenizer, notes["text_value"].to_list(), limit=self.max_tokens)
        return Phrases.fit(
            pieces,
            notes["record"].to_numpy(),
            notes["subject"].to_numpy(),
            width=self.phrases,
            min_subjects=self.min_subjects,
            spelling=Spelling.of(tokenizer.get_vocab(), first_word=first_word),
            seed=seed,
        )

    def sizes(self, statistics: Statistics) -> dict[str, int]:
        """`vocabulary, max_tokens, phrases`, the ids `pad, unknown, cls, sep, mask`, `special`.

        Every id below `special` is a special piece. With weights also `hidden_size, layers,
        heads, intermediate, positions, types`.
        """
        return dict(statistics["sizes"])

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
        """Write one shard.

        Returns:
            `empty` and `cut_notes` of the distinct notes; `left_out_notes`, older than the
            newest of their sample, once a sample.
        """
        worded = _with_text(visible)
        kept = newest(worded, self.max_notes)
        notes = kept.unique("event").sort("event")
        tokenizer = parse(statistics["tokenizer"], where="statistics.json")
        limit = statistics["sizes"]["max_tokens"]
        pieces, n_cut = encode_starts(tokenizer, notes["text_value"].to_list(), limit=limit)
        lengths = np.array([len(ids) for ids in pieces], dtype=np.int64)
        flat = np.concatenate([np.empty(0, np.int32), *pieces])
        entries: dict[str, Any] = {"ids": Ragged.from_lengths(flat, lengths)}
        phrases = Phrases.from_json(statistics["phrases"])
        if phrases.width:
            entries["phrases"] = phrases.apply(pieces)
        write_occurrences(
            kept,
            n_samples,
            entries,
            notes["event"].to_numpy(),
            folder / NAME,
        )
        return nonzero(
            {
                "empty": visible["event"].n_unique() - worded["event"].n_unique(),
                "cut_notes": n_cut,
                "left_out_notes": worded.height - kept.height,
            }
        )

    def open(self, folders: Sequence[Path], statistics: Statistics) -> "NotesReader":
        """Read back what `write` left in `folders`."""
        return NotesReader(folders, pad=statistics["sizes"]["pad"])


class NotesReader(OccurrencesReader):
    """Stored notes of all shards."""

    def __init__(self, folders: Sequence[Path], *, pad: int) -> None:
        super().__init__(folders, NAME)
        self._pad = pad

    def container(self, seen: Seen, size: int, *, encoded: Array | None) -> Tokens:
        """Notes padded to the longest; without their word pieces where they are encoded."""
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
            kind=torch.zeros(rows, dtype=torch.int64),
            chunk=torch.zeros(rows, dtype=torch.int64),
            sample=torch.from_numpy(seen.sample),
            size=size,
            phrases=torch.from_numpy(phrases),
            encoded=None if encoded is None else torch.from_numpy(encoded),
        )


def frequent_words(frames: Iterable[pl.DataFrame], *, min_subjects: int) -> dict[str, int]:
    """How often the train notes use each word that at least `min_subjects` subjects use."""
    counts: Counter[str] = Counter()
    # Subjects of a word until there are enough of them. Not a count per shard: that a subject
    # lies in one shard is a property of a valid extract, and privacy should not hang on it.
    few: dict[str, set[int]] = {}
    enough: set[str] = set()
    for frame in frames:
        notes = _with_text(frame).unique("event").sort("event")
        for subject, text in notes.select("subject", "text_value").iter_rows():
            used = words(text)
            counts.update(used)
            for word in used.keys() - enough:
                users = few.setdefault(word, set())
                users.add(subject)
                if len(users) >= min_subjects:
                    enough.add(word)
                    del few[word]
    return {word: counts[word] for word in sorted(enough)}


def _train_notes(shards: Frames, *, most: int, seed: int) -> pl.DataFrame:
    """`text_value, subject, record`: those of a record are the notes of one sample.

    A note that several samples see belongs to the first of them. Where there are more than about
    `most` notes, records are drawn.
    """
    n_notes = sum(_with_text(frame)["event"].n_unique() for frame in shards())
    rng = np.random.default_rng(seed)
    found = [
        pl.DataFrame(schema={"text_value": pl.String, "subject": pl.Int64, "record": pl.Int64})
    ]
    for number, frame in enumerate(shards()):
        notes = _with_text(frame).unique("event", keep="first", maintain_order=True)
        sample = notes["sample"].to_numpy()
        is_drawn = rng.random(sample.max(initial=0) + 1) < most / max(n_notes, 1)
        record = pl.Series("record", sample + (number << 32), pl.Int64)
        own = notes.select("text_value", "subject").with_columns(record)
        found.append(own.filter(pl.Series(is_drawn[sample])))
    return pl.concat(found)


def _with_text(visible: pl.DataFrame) -> pl.DataFrame:
    return visible.filter(pl.col("text_value").str.contains(r"\S").fill_null(False))
