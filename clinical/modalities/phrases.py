"""Counted phrases of notes, weighed by what the sentences of one record agree on.

A few thousand notes teach a BERT little, but they are enough to count phrases. Which
combinations of phrases say something of the patient can be learned without a label: what
several sentences of one record have in common is the patient, what they don't share is chance.
The directions with the highest reliability (the share of the variance between records that is
no chance, an intraclass correlation) come from one generalised eigenproblem. It is canonical
correlation between parts of a record, taken over all ways to part it; that few labels suffice
afterwards is shown by Kakade & Foster (2007), Multi-view regression via canonical correlation
analysis, COLT.
"""

from clinical.modalities.contract import Statistics

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD

Ids = NDArray[np.int32]
Matrix = NDArray[np.float64]

SENTENCE_ENDS = (".", "!", "?", ";")
LONGEST_SENTENCE = 32
"""Word pieces, for notes without punctuation."""
LONGEST_PHRASE = 4
"""Word pieces."""
MOST_PHRASES = 20_000
RANKS = (16, 32, 64, 128, 256, 512)
"""Of the counts before reliability is asked for; the data choose."""
N_FOLDS = 4
RIDGE = 1e-3
LEAST_RELIABLE = 0.01

_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Phrases:
    """What a phrase adds to a note's vector.

    Attributes:
        hashes: [P] int64, ascending; a hash stands for a phrase, so that no text is kept.
        vectors: [P, K] float32.
        center: [K] float32, of the train records.
        ends: ids of the pieces that end a sentence.
        first_word: ids below it are special pieces.
    """

    hashes: NDArray[np.int64]
    vectors: NDArray[np.float32]
    center: NDArray[np.float32]
    ends: tuple[int, ...]
    first_word: int

    @property
    def width(self) -> int:
        """K, directions that sentences of a record agree on; 0 where there are none."""
        return int(self.vectors.shape[1])

    @classmethod
    def fit(
        cls,
        notes: Sequence[Ids],
        record: NDArray[np.int64],
        subject: NDArray[np.int64],
        *,
        width: int,
        min_subjects: int,
        ends: tuple[int, ...],
        first_word: int,
        seed: int,
    ) -> Self:
        """Learn from train notes.

        Args:
            notes: word pieces of each note.
            record: [R] which notes belong together.
            subject: [R] whose they are.
            width: K at most; directions that don't hold on records left out are dropped.
            min_subjects: who must use a phrase before it is counted.
            ends, first_word: see the attributes.
            seed: of the folds and the decomposition.
        """
        hashes, sentence, note = cut(notes, ends=ends, first_word=first_word)
        known, idf = _vocabulary(hashes, subject[note[sentence]], min_subjects=min_subjects)
        record = np.unique(record[note], return_inverse=True)[1]
        counts = _count(hashes, sentence, known, n_sentences=len(note))
        weighed = counts.multiply(idf).tocsr() if len(known) else counts
        vectors, center = _reliable_directions(weighed, record, width=width, seed=seed)
        return cls(
            known,
            (idf[:, None] * vectors).astype(np.float32),
            center.astype(np.float32),
            ends,
            first_word,
        )

    def apply(self, notes: Sequence[Ids]) -> NDArray[np.float32]:
        """[R, K] the mean over each note's sentences; zeros for a note without one."""
        hashes, sentence, note = cut(notes, ends=self.ends, first_word=self.first_word)
        counts = _count(hashes, sentence, self.hashes, n_sentences=len(note))
        n_sentences = np.bincount(note, minlength=len(notes)).astype(np.float32)
        whole = csr_matrix(
            (1 / n_sentences[note], (note, np.arange(len(note)))), (len(notes), len(note))
        )
        found: NDArray[np.float32] = (whole @ (counts @ self.vectors)) - self.center
        found[n_sentences == 0] = 0.0
        return found.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the vectors at half precision."""
        return {
            "hashes": _pack(self.hashes),
            "vectors": _pack(self.vectors.astype(np.float16)),
            "center": self.center.tolist(),
            "ends": list(self.ends),
            "first_word": self.first_word,
        }

    @classmethod
    def from_json(cls, plain: Statistics) -> Self:
        """What `to_json` gave."""
        hashes = _unpack(plain["hashes"], np.int64)
        center = np.array(plain["center"], dtype=np.float32)
        vectors = _unpack(plain["vectors"], np.float16).reshape(len(hashes), len(center))
        return cls(
            hashes, vectors.astype(np.float32), center, tuple(plain["ends"]), plain["first_word"]
        )


def cut(
    notes: Sequence[Ids], *, ends: tuple[int, ...], first_word: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Phrases of one to `LONGEST_PHRASE` pieces that lie within one sentence.

    Returns:
        [M] a hash of each phrase, [M] its sentence, and [S] the note of each sentence.
    """
    piece = np.concatenate([np.empty(0, np.int32), *notes])
    note = np.repeat(np.arange(len(notes)), [len(ids) for ids in notes])
    is_end = np.isin(piece, ends)
    starts = np.r_[True, (note[1:] != note[:-1]) | is_end[:-1]][: len(piece)]
    sentence = _split_long(starts)
    word = (piece >= first_word) & ~is_end
    # Sentences of words only are numbered, so that a lone full stop is none.
    kept, sentence = np.unique(sentence[word], return_inverse=True)
    note_of = np.zeros(len(kept), dtype=np.int64)
    note_of[sentence] = note[word]
    number = piece[word].astype(np.uint64) + np.uint64(1)
    found, where = [], []
    hashed = np.zeros(len(number), dtype=np.uint64)
    for length in range(1, LONGEST_PHRASE + 1):
        n = max(len(number) - length + 1, 0)
        hashed = (hashed[:n] + number[length - 1 :]) * _PRIME
        hashed ^= hashed >> np.uint64(29)
        inside = sentence[:n] == sentence[length - 1 :]
        found.append(hashed[inside])
        where.append(sentence[:n][inside])
    return np.concatenate(found).view(np.int64), np.concatenate(where), note_of


def _split_long(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The sentence of each piece, none longer than `LONGEST_SENTENCE`."""
    sentence = np.cumsum(starts) - 1
    position = np.arange(len(starts)) - np.flatnonzero(starts)[sentence]
    return np.cumsum(position % LONGEST_SENTENCE == 0) - 1


def _vocabulary(
    hashes: NDArray[np.int64], subject: NDArray[np.int64], *, min_subjects: int
) -> tuple[NDArray[np.int64], Matrix]:
    """Phrases of enough subjects, ascending, and how rare each is on a log scale."""
    used = pl.DataFrame({"hash": hashes, "subject": subject}).unique()
    counts = used.group_by("hash").len().filter(pl.col("len") >= min_subjects)
    most = counts.sort(["len", "hash"], descending=[True, False]).head(MOST_PHRASES).sort("hash")
    n_subjects = max(len(np.unique(subject)), 1)
    return most["hash"].to_numpy(), np.log(n_subjects / most["len"].to_numpy() + 1.0)


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


def _reliable_directions(
    counts: csr_matrix, record: NDArray[np.int64], *, width: int, seed: int
) -> tuple[Matrix, Matrix]:
    """Directions [P, K] of the counts, and the records' means along them [K].

    The spread between records along a direction is its reliability, so that what follows
    listens to the reliable ones first.
    """
    size = np.bincount(record)
    several = size[record] > 1
    counts, record = counts[several], np.unique(record[several], return_inverse=True)[1]
    n_records = int(record.max()) + 1 if len(record) else 0
    rank = min(RANKS[-1], n_records // N_FOLDS, counts.shape[1])
    if n_records < N_FOLDS * RANKS[0] or not rank:
        return np.zeros((counts.shape[1], 0)), np.zeros(0)
    pool = csr_matrix((np.ones(len(record), np.float32), (record, np.arange(len(record)))))
    svd = TruncatedSVD(rank, n_iter=2, random_state=seed).fit(pool @ counts)
    basis = svd.components_.T
    fold = np.random.default_rng(seed).integers(0, N_FOLDS, n_records)
    shared, total = _covariances(counts @ basis, record, fold)
    best, held = basis[:, :0], np.zeros(0)
    for r in [r for r in RANKS if r < rank] + [rank]:
        found = _cross_fitted(shared[:, :r, :r], total[:, :r, :r], width)
        if (found**2).sum() > (held**2).sum():
            held = found
            best = basis[:, :r] @ _solve(shared[:, :r, :r].sum(0), total[:, :r, :r].sum(0), width)
    means = (pool @ (counts @ best)) / np.bincount(record)[:, None]
    # The ridge alone gives length to a direction along which nothing varies.
    kept = (held > LEAST_RELIABLE) & (n_records * means.var(0) > 0.5)
    scale = held[kept] / means[:, kept].std(0)
    return best[:, kept] * scale, means[:, kept].mean(0) * scale


def _covariances(z: Matrix, record: NDArray[np.int64], fold: NDArray[np.int64]) -> tuple[Any, Any]:
    """[F, r, r] covariance between different sentences of a record, and of the records' means."""
    z = z - z.mean(0)
    n = np.bincount(record).astype(np.float64)
    pool = csr_matrix((np.ones(len(record)), (record, np.arange(len(record)))))
    sums = pool @ z
    pairs = 1 / (n * (n - 1))
    shared, total = [], []
    for number in range(N_FOLDS):
        own, rows = fold == number, fold[record] == number
        s, parts = sums[own], z[rows]
        between = (s * pairs[own, None]).T @ s
        within = (parts * pairs[record[rows], None]).T @ parts
        shared.append(between - within)
        means = s / n[own, None]
        total.append(means.T @ means)
    return np.stack(shared), np.stack(total)


def _cross_fitted(shared: Matrix, total: Matrix, width: int) -> Matrix:
    """[K] reliability of each direction on records that it was not learned from."""
    found = []
    for number in range(N_FOLDS):
        rest = np.arange(N_FOLDS) != number
        directions = _solve(shared[rest].sum(0), total[rest].sum(0), width)
        common = np.einsum("rk,rs,sk->k", directions, shared[number], directions)
        # With the ridge, or a direction in which nothing varies would be noise over noise.
        whole = np.einsum("rk,rs,sk->k", directions, _ridged(total[number]), directions)
        found.append(common / whole)
    # A direction is not trusted more than one that learning had put before it.
    trusted: Matrix = np.minimum.accumulate(np.mean(found, axis=0).clip(min=0.0))
    return trusted


def _solve(shared: Matrix, total: Matrix, width: int) -> Matrix:
    """The most reliable directions [r, K], best first."""
    r = len(total)
    _, directions = eigh(shared, _ridged(total), subset_by_index=(max(r - width, 0), r - 1))
    best_first: Matrix = directions[:, ::-1]
    return best_first


def _ridged(total: Matrix) -> Matrix:
    ridge: Matrix = RIDGE * np.trace(total) / len(total) * np.eye(len(total))
    return total + ridge


def _pack(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _unpack(text: str, dtype: Any) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)
