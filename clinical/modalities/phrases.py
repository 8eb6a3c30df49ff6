"""Counted phrases of notes, weighed by what the sentences of one record agree on, and as topics.

A few thousand notes teach a BERT little, but they are enough to count phrases. Which
combinations of phrases tell records apart can be learned without a label (`agreement.py`), and
needs few labels afterwards.

They are learned from whole notes, and told of what they are applied to: the chunks of a note, so
that a sample hears of all of the text that it reads and of none that was left out.
"""

from clinical.modalities.agreement import Agreement
from clinical.modalities.contract import Statistics
from clinical.modalities.tokenizer import plain
from clinical.modalities.topics import Topics, pack, unpack

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Ids = NDArray[np.int32]

SENTENCE_ENDS = (".", "!", "?", ";")
LONGEST_SENTENCE = 32
"""Word pieces, for notes without punctuation."""
LONGEST_PHRASE = 4
"""Word pieces."""
MOST_PHRASES = 20_000

_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Spelling:
    """What a tokenizer's pieces are to a reader.

    Attributes:
        ends: ids of the pieces that end a sentence.
        digits: ids of the pieces of digits alone; between two of them nothing ends.
        special: ids of the pieces that are no text.
    """

    ends: Sequence[int]
    digits: Sequence[int]
    special: Sequence[int]

    @classmethod
    def of(cls, vocabulary: Mapping[str, int], *, special: Sequence[int]) -> Self:
        """Of a tokenizer's pieces and their ids."""
        ends = sorted(vocabulary[end] for end in SENTENCE_ENDS if end in vocabulary)
        digits = sorted(i for piece, i in vocabulary.items() if plain(piece).isdecimal())
        return cls(ends, digits, special)


@dataclass(frozen=True)
class Phrases:
    """What a phrase adds to a note's vector.

    A hash stands for a phrase. It hides nothing from whoever has the tokenizer and patience: that
    only phrases of several subjects are kept is what protects them.

    Attributes:
        hashes: [P] int64, ascending.
        vectors: [P, K] float32, of what sentences of a record agree on.
        center: [K] float32, of the train records.
        spelling: how sentences are told apart.
        topics: of the same phrases.
    """

    hashes: NDArray[np.int64]
    vectors: NDArray[np.float32]
    center: NDArray[np.float32]
    spelling: Spelling
    topics: Topics

    @property
    def sizes(self) -> dict[str, int]:
        """`phrases`, the width, of which the last `topics`."""
        return {"phrases": self.width, "topics": self.topics.width}

    @property
    def width(self) -> int:
        """Directions that sentences of a record agree on, then topics; 0 where there are none."""
        return len(self.center) + self.topics.width

    @classmethod
    def fit(
        cls,
        notes: Sequence[Ids],
        record: NDArray[np.int64],
        subject: NDArray[np.int64],
        *,
        width: int,
        topics: int,
        min_subjects: int,
        spelling: Spelling,
        seed: int,
    ) -> Self:
        """Learn from train notes.

        Args:
            notes: word pieces of each note.
            record: [R] which notes belong together.
            subject: [R] whose they are.
            width: K at most; directions that don't hold on other subjects are dropped.
            topics: at most, and at most one for each `min_subjects` subjects.
            min_subjects: who must use a phrase before it is counted.
            spelling: of the tokenizer.
            seed: of the folds and the decomposition.
        """
        hashes, sentence, note = cut(notes, spelling)
        known = _vocabulary(hashes, subject[note[sentence]], min_subjects=min_subjects)
        counts = _count(hashes, sentence, known, n_sentences=len(note))
        by_note = _sums(note, n_notes=len(notes)) @ counts
        once = _without_copies(hashes, sentence, record[note])
        record, subject = record[note][once], subject[note][once]
        vectors, center = Agreement.of(counts[once], record, subject, seed=seed).directions(width)
        # As many directions as notes would tell each train note from all others.
        topics = min(topics, len(np.unique(subject)) // min_subjects)
        found = Topics.fit(by_note[np.diff(by_note.indptr) > 0], width=topics, seed=seed)
        return cls(known, vectors, center, spelling, found)

    def apply(self, notes: Sequence[Ids]) -> NDArray[np.float32]:
        """[R, width] the mean over each note's sentences, and the topics of all; zeros for a note
        without one."""
        hashes, sentence, note = cut(notes, self.spelling)
        counts = _count(hashes, sentence, self.hashes, n_sentences=len(note))
        whole = _sums(note, n_notes=len(notes))
        n_sentences = np.bincount(note, minlength=len(notes))[:, None]
        agreed = (whole @ (counts @ self.vectors)) / n_sentences.clip(min=1) - self.center
        agreed[n_sentences[:, 0] == 0] = 0.0
        return np.hstack([agreed, self.topics.apply(whole @ counts)]).astype(np.float32)

    def share_out(self, ids: Ids, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """[L] what each piece of a note adds to the product of a gradient [K] and `apply`'s row.

        A phrase's part goes to its pieces in equal shares, and one that a sentence repeats is
        counted there once. A sentence counts from an average one, which is taken off its pieces in
        equal shares too, and so is an average note: what every note says adds little.

        Args:
            ids: [L] word pieces of the note.
            gradient: [width].
        """
        number, place, sentence, note = _words([ids], self.spelling)
        by_agreement, by_topics = np.split(gradient, [len(self.center)])
        hashes, where, _ = cut([ids], self.spelling)
        counts = _count(hashes, where, self.hashes, n_sentences=len(note)).sum(0)
        of_topic, usual_note = self.topics.worth(csr_matrix(counts), by_topics)
        worth = self.vectors.astype(np.float64) @ by_agreement / max(len(note), 1)
        worth += of_topic / np.asarray(counts)[0].clip(min=1)
        found = np.zeros(len(ids))
        usual = (float(self.center @ by_agreement) + usual_note) / max(len(note), 1)
        found[place] -= usual / np.bincount(sentence)[sentence]
        for length, hashed, start in _phrases(number, place, sentence):
            known = np.isin(hashed, self.hashes)
            start = start[known]
            row = np.searchsorted(self.hashes, hashed[known])
            pairs = np.stack([row, sentence[start]], axis=1)
            _, which, times = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
            each = worth[row] / (length * times[which.reshape(-1)])
            for step in range(length):
                np.add.at(found, place[start] + step, each)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; the vectors at half precision."""
        return {
            "hashes": pack(self.hashes),
            "vectors": pack(self.vectors.astype(np.float16)),
            "center": self.center.tolist(),
            "spelling": asdict(self.spelling),
            "topics": self.topics.to_json(),
        }

    @classmethod
    def from_json(cls, plain: Statistics) -> Self:
        """What `to_json` gave."""
        hashes = unpack(plain["hashes"], np.int64)
        center = np.array(plain["center"], dtype=np.float32)
        vectors = unpack(plain["vectors"], np.float16).reshape(len(hashes), len(center))
        spelling, topics = Spelling(**plain["spelling"]), Topics.from_json(plain["topics"])
        return cls(hashes, vectors.astype(np.float32), center, spelling, topics)


def cut(
    notes: Sequence[Ids], spelling: Spelling
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Phrases of one to `LONGEST_PHRASE` successive pieces within one sentence.

    Returns:
        [M] a hash of each phrase, [M] its sentence, and [S] the note of each sentence.
    """
    number, place, sentence, note = _words(notes, spelling)
    found, where = [], []
    for _, hashed, start in _phrases(number, place, sentence):
        found.append(hashed)
        where.append(sentence[start])
    return np.concatenate(found), np.concatenate(where), note


def _words(
    notes: Sequence[Ids], spelling: Spelling
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pieces that phrases are made of, over all notes: [W] a number for what each is, its
    place and its sentence; [S] the note of each sentence."""
    piece = np.concatenate([np.empty(0, np.int32), *notes])
    note = np.repeat(np.arange(len(notes)), [len(ids) for ids in notes])
    is_end = np.isin(piece, spelling.ends) & ~_between(np.isin(piece, spelling.digits))
    starts = np.r_[True, (note[1:] != note[:-1]) | is_end[:-1]][: len(piece)]
    place = np.flatnonzero(~np.isin(piece, spelling.special) & ~is_end)
    # Sentences with a word are numbered, so that a lone full stop is none.
    kept, sentence = np.unique(_split_long(starts)[place], return_inverse=True)
    note_of = np.zeros(len(kept), dtype=np.int64)
    note_of[sentence] = note[place]
    return piece[place].astype(np.uint64) + np.uint64(1), place, sentence, note_of


def _phrases(
    number: NDArray[np.uint64], place: NDArray[np.int64], sentence: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """By their length, a hash of each phrase and which of the words is its first."""
    hashed = np.zeros(len(number), dtype=np.uint64)
    for length in range(1, LONGEST_PHRASE + 1):
        n, last = max(len(number) - length + 1, 0), slice(length - 1, None)
        hashed = (hashed[:n] + number[last]) * _PRIME
        hashed ^= hashed >> np.uint64(29)
        whole = (sentence[:n] == sentence[last]) & (place[last] - place[:n] == length - 1)
        yield length, hashed[whole].view(np.int64), np.flatnonzero(whole)


def _between(is_digit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The piece stands between two numbers, as the point of 4.1 does."""
    between = np.zeros(len(is_digit), dtype=np.bool_)
    between[1:-1] = is_digit[:-2] & is_digit[2:]
    return between


def _split_long(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The sentence of each piece, none longer than `LONGEST_SENTENCE`."""
    sentence = np.cumsum(starts) - 1
    position = np.arange(len(starts)) - np.flatnonzero(starts)[sentence]
    return np.cumsum(position % LONGEST_SENTENCE == 0) - 1


def _vocabulary(
    hashes: NDArray[np.int64], subject: NDArray[np.int64], *, min_subjects: int
) -> NDArray[np.int64]:
    """The phrases of most subjects, of enough at least, ascending."""
    used = pl.DataFrame({"hash": hashes, "subject": subject}).unique()
    counts = used.group_by("hash").len().filter(pl.col("len") >= min_subjects)
    most = counts.sort(["len", "hash"], descending=[True, False]).head(MOST_PHRASES)
    return most["hash"].sort().to_numpy()


def _count(
    hashes: NDArray[np.int64],
    sentence: NDArray[np.int64],
    known: NDArray[np.int64],
    *,
    n_sentences: int,
) -> csr_matrix:
    """[S, P] 1 where a sentence has a known phrase."""
    place = np.searchsorted(known, hashes)
    is_known = (known[place.clip(max=len(known) - 1)] == hashes) if len(known) else place < 0
    rows, columns = sentence[is_known], place[is_known]
    ones = np.ones(len(rows), dtype=np.float32)
    counts = csr_matrix((ones, (rows, columns)), (n_sentences, len(known)))
    counts.data[:] = 1.0
    return counts


def _sums(note: NDArray[np.int64], *, n_notes: int) -> csr_matrix:
    """[R, S] 1 where a sentence is of a note."""
    ones = np.ones(len(note), dtype=np.float32)
    return csr_matrix((ones, (note, np.arange(len(note)))), (n_notes, len(note)))


def _without_copies(
    hashes: NDArray[np.int64], sentence: NDArray[np.int64], record: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows of the sentences, each wording once a record: a copied line agrees with itself."""
    wording = np.zeros(len(record), dtype=np.int64)
    np.add.at(wording, sentence, hashes)
    rows = pl.DataFrame({"record": record, "wording": wording}).with_row_index("row")
    first = rows.unique(["record", "wording"], keep="first", maintain_order=True)
    return first["row"].to_numpy().astype(np.int64)
