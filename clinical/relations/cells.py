"""The lists of an index: the cells of k-means (Lloyd) on a sample of the references."""

from clinical.relations.neighbours import Floats, Whole
from clinical.relations.probing import Lists

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

_SAMPLE = 64  # references a list that k-means sees
_ITERATIONS = 10
_ROWS = 65_536  # keys converted at once
_SEED = 0


def make_lists(key: Floats, subject: Whole, among: Whole, *, k: int) -> Lists:
    """Lists of references, as many as the root of their number, without those never needed.

    Of references with equal keys the first are the nearest of any query. More than `k` of them are
    needed only where some are of the query's own subject.

    Args:
        key: [N, D], finite.
        subject: [N].
        among: [M], which of the N; ascending, at least one.
        k: The most neighbours that will be asked for.
    """
    before = _equal_before(key[among])
    n_own = int(np.unique(subject[among], return_counts=True)[1].max())
    kept, distinct = among[before < k + n_own], among[before == 0]
    means = _fit_means(key, distinct, n_lists=round(math.sqrt(len(kept))))
    blocks = [kept[start : start + _ROWS] for start in range(0, len(kept), _ROWS)]
    closest = np.concatenate([means.predict(key[rows].astype(np.float32)) for rows in blocks])
    used, closest = np.unique(closest, return_inverse=True)
    rows = kept[np.argsort(closest, kind="stable")]
    centroids = means.cluster_centers_[used]
    centre = centroids.mean(0)
    return Lists(
        centre=centre,
        centroids=centroids,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(closest))]),
        rows=rows,
        packed=_packed(key, rows, centre),
    )


def _equal_before(key: Floats) -> Whole:
    """How many before each have the same key [N]."""
    bare = np.ascontiguousarray(key + 0.0)  # -0.0 equals 0.0, but not in its bits
    bits = bare.view(np.dtype((np.void, bare.dtype.itemsize * bare.shape[1]))).ravel()
    _, group = np.unique(bits, return_inverse=True)
    order = np.argsort(group, kind="stable")
    before = np.empty(len(key), dtype=np.int64)
    before[order] = np.arange(len(key)) - np.searchsorted(group[order], group[order])
    return before


def _fit_means(key: Floats, distinct: Whole, *, n_lists: int) -> KMeans:
    n_lists = min(n_lists, len(distinct))
    n_seen = min(len(distinct), _SAMPLE * n_lists)
    seen = np.random.default_rng(_SEED).choice(distinct, n_seen, replace=False)
    means = KMeans(n_lists, init="random", n_init=1, max_iter=_ITERATIONS, random_state=_SEED)
    with warnings.catch_warnings():
        # Keys may be distinct in float64 alone; a cell that nobody is in is left out.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return means.fit(key[seen].astype(np.float32))


def _packed(key: Floats, rows: Whole, centre: NDArray[np.float32]) -> NDArray[np.float32]:
    packed = np.empty((len(rows), key.shape[1] + 1), dtype=np.float32)
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        left = key[rows[block]] - centre
        packed[block, :-1], packed[block, -1] = left, np.square(left).sum(1)
    return packed
