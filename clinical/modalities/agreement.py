"""Directions of counts on which the parts of a record agree.

What different sentences of one record have in common belongs to the record (the patient, and also
the author, the unit, the template); the rest is chance. The directions of the highest reliability
(the share of the variance between records that is not chance, an intraclass correlation) come
from one generalised eigenproblem, and subjects that were left out of it say how far each can be
trusted. It is canonical correlation between parts of a record, taken over all ways to part it;
that few labels suffice afterwards is shown by Kakade & Foster (2007), Multi-view regression via
canonical correlation analysis, COLT.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD

Matrix = NDArray[Any]

RANKS = (16, 32, 64, 128, 256, 512)
"""To which the counts are condensed; the subjects left out choose."""
MOST_SENTENCES = 40_000
"""From which the counts are condensed, at most."""
N_FOLDS = 5
STANDARD_ERRORS = 3.0
"""By how many of them a direction's reliability must lie above 0."""
RIDGE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How counts vary within and between records, fold by fold of the subjects.

    Attributes:
        basis: [P, r] directions of the counts, the strongest first.
        center: [r] mean of the records' means.
        shared: [F, r, r] covariance between different sentences of a record, summed over the
            records of a fold.
        total: [F, r, r] covariance of the records' means, summed likewise.
        n_records: with more than one sentence.
    """

    basis: Matrix
    center: Matrix
    shared: Matrix
    total: Matrix
    n_records: int

    @classmethod
    def of(
        cls,
        counts: csr_matrix,
        record: NDArray[np.int64],
        subject: NDArray[np.int64],
        *,
        seed: int,
    ) -> Self:
        """Of sentences.

        The counts are condensed sentence by sentence: condensing whole records would favour what
        their sentences happen to share, in the records left out as well.

        Args:
            counts: [S, P].
            record: [S] that a sentence belongs to.
            subject: [S] whose record it is.
            seed: of the folds and the decomposition.
        """
        _, record, size = np.unique(record, return_inverse=True, return_counts=True)
        several = size[record] > 1
        counts, subject = counts[several], subject[several]
        _, record, size = np.unique(record[several], return_inverse=True, return_counts=True)
        rank = min(RANKS[-1], len(size) // N_FOLDS, counts.shape[1])
        if len(size) < N_FOLDS * RANKS[0] or rank < 2:
            nothing = np.zeros((N_FOLDS, 0, 0))
            return cls(np.zeros((counts.shape[1], 0)), np.zeros(0), nothing, nothing, len(size))
        rng = np.random.default_rng(seed)
        some = np.sort(rng.permutation(len(record))[:MOST_SENTENCES])
        svd = TruncatedSVD(rank, n_iter=2, random_state=seed).fit(counts[some])
        basis = svd.components_.T.astype(np.float32)
        center = _mean_of_means(counts, record) @ basis
        _, who = np.unique(subject, return_inverse=True)
        fold = rng.integers(0, N_FOLDS, who.max() + 1)[who]
        shared, total = np.zeros((2, N_FOLDS, rank, rank))
        for number in range(N_FOLDS):
            rows = fold == number
            condensed = counts[rows] @ basis - center
            shared[number], total[number] = _covariances(condensed, record[rows])
        return cls(basis, center, shared, total, len(size))

    def directions(self, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The most reliable directions of the counts.

        Returns:
            [P, K] with K at most `width`, best first, and the records' mean [K] along them. The
            spread between records along a direction is its reliability, so that what follows
            listens to the reliable ones first.
        """
        trusted, rank, whole = np.zeros(0), 0, self.basis.shape[1] if width else 0
        for r in sorted({*(r for r in RANKS if r < whole), whole} - {0}):
            found = self._trusted(r, width)
            if found.sum() > trusted.sum():
                rank, trusted = r, found
        if not rank:
            return np.zeros((len(self.basis), 0), np.float32), np.zeros(0, np.float32)
        own = self.total[:, :rank, :rank].sum(0) / self.n_records
        turned = _solve(self.shared[:, :rank, :rank].sum(0) / self.n_records, own, width)
        turned, trusted = turned[:, trusted > 0], trusted[trusted > 0]
        turned = turned * trusted / np.sqrt(_along(turned, own))
        center = self.center[:rank] @ turned
        return (self.basis[:, :rank] @ turned).astype(np.float32), center.astype(np.float32)

    def _trusted(self, rank: int, width: int) -> Matrix:
        """[K] reliability on subjects that a direction was not learned from; 0 if not above 0."""
        shared, total = self.shared[:, :rank, :rank], self.total[:, :rank, :rank]
        found = []
        for number in range(N_FOLDS):
            rest = np.arange(N_FOLDS) != number
            directions = _solve(shared[rest].sum(0), total[rest].sum(0), width)
            common = _along(directions, shared[number])
            # With the ridge, or a direction in which nothing varies would be noise over noise.
            found.append(common / _along(directions, _ridged(total[number])))
        mean = np.mean(found, axis=0)
        # A few folds may agree by chance: no error is less than that of pairs of sentences.
        error = np.std(found, axis=0, ddof=1) / np.sqrt(N_FOLDS)
        error = np.maximum(error, np.sqrt(2 / self.n_records))
        certain = np.where(mean > STANDARD_ERRORS * error, mean, 0.0)
        # A direction is not trusted more than one that learning had put before it.
        trusted: Matrix = np.minimum.accumulate(certain)
        return trusted


def _mean_of_means(counts: csr_matrix, record: NDArray[np.int64]) -> Matrix:
    """[P] the mean over records of the mean over a record's sentences."""
    size = np.bincount(record)
    mean: Matrix = counts.T @ (1 / (len(size) * size[record]))
    return mean


def _covariances(condensed: Matrix, record: NDArray[np.int64]) -> tuple[Matrix, Matrix]:
    """[r, r] each, summed over records: between different sentences, and of the means."""
    _, record, size = np.unique(record, return_inverse=True, return_counts=True)
    ones, places = np.ones(len(record), np.float32), (record, np.arange(len(record)))
    sums = csr_matrix((ones, places), (len(size), len(record))) @ condensed
    pairs = (1 / (size * (size - 1.0)))[:, None].astype(np.float32)
    # All pairs of a record's sentences, less each with itself.
    shared = (sums * pairs).T @ sums - (condensed * pairs[record]).T @ condensed
    means = sums / size[:, None]
    return shared, means.T @ means


def _along(directions: Matrix, covariance: Matrix) -> Matrix:
    """[K] variance along directions [r, K] by a covariance [r, r]."""
    variance: Matrix = np.einsum("rk,rs,sk->k", directions, covariance, directions)
    return variance


def _solve(shared: Matrix, total: Matrix, width: int) -> Matrix:
    """The most reliable directions [r, K], best first."""
    r = len(total)
    _, directions = eigh(shared, _ridged(total), subset_by_index=(max(r - width, 0), r - 1))
    best_first: Matrix = directions[:, ::-1]
    return best_first


def _ridged(total: Matrix) -> Matrix:
    ridge: Matrix = (RIDGE * np.trace(total) / len(total) + 1e-12) * np.eye(len(total))
    return total + ridge
