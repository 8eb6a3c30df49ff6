"""An inverted-file index of many references: built once, at fitting, and carried in the bundle.

How many lists a query looks through is chosen on references asked as if they were new, and the
recall that is stored is measured on others.
"""

from clinical.errors import BundleError
from clinical.relations.cells import make_lists
from clinical.relations.keys import Keys
from clinical.relations.neighbours import Floats, Whole, nearest
from clinical.relations.probing import Lists, Points, probe

import logging
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits

logger = logging.getLogger(__name__)

MOST_EXACT = 50_000
"""References up to which each is compared with every sample."""

WANTED = 0.97
"""Recall that the number of lists is chosen for; another sample should find above 0.95."""

_ASKED = 256  # references in each of the two samples
_SEED = 0

_PREFIX = "index_"
_ARRAYS = ("centre", "centroids", "offsets", "rows", "packed", "n_probe", "k", "recall")
_TYPES = [
    (np.dtype(np.float32), 1),
    (np.dtype(np.float32), 2),
    (np.dtype(np.int64), 1),
    (np.dtype(np.int64), 1),
    (np.dtype(np.float32), 2),
    (np.dtype(np.int64), 1),
    (np.dtype(np.int64), 1),
    (np.dtype(np.float64), 1),
]


@dataclass(frozen=True)
class Index:
    """Lists of references, and how to look through them.

    Attributes:
        lists: Of the rows of the reference.
        n_probe: Lists that a query looks through.
        k: The most neighbours that may be asked for: of references with equal keys, those that
            cannot be among so many are left out.
        recall: Share of the k nearest that is found, measured when it was built.
    """

    lists: Lists
    n_probe: int
    k: int
    recall: float

    def nearest(self, query: Points, reference: Points, *, k: int) -> tuple[Whole, Floats]:
        """As `neighbours.nearest`, but most of the nearest instead of all.

        Raises:
            BundleError: The index is not of this reference, is for fewer neighbours than k, or
                meets keys that are not finite.
        """
        self._check(query, reference, k)
        try:
            return probe(self.lists, query, reference, k=k, n_probe=self.n_probe)
        except FloatingPointError as error:
            raise _damaged("meets keys that are not finite") from error

    def arrays(self) -> Keys:
        """What `read` reads."""
        found: Keys = {
            "centre": self.lists.centre,
            "centroids": self.lists.centroids,
            "offsets": self.lists.offsets,
            "rows": self.lists.rows,
            "packed": self.lists.packed,
            "n_probe": np.array([self.n_probe]),
            "k": np.array([self.k]),
            "recall": np.array([self.recall]),
        }
        return {_PREFIX + name: found[name] for name in _ARRAYS}

    @classmethod
    def read(cls, parameters: Keys) -> Self | None:
        """The index among the parameters of a relation, if there is one.

        Raises:
            BundleError: Its arrays don't fit together.
        """
        if not any(name.startswith(_PREFIX) for name in parameters):
            return None
        try:
            found = [parameters[_PREFIX + name] for name in _ARRAYS]
        except KeyError as error:
            raise _damaged(f"has no {error.args[0]}") from error
        if [(array.dtype, array.ndim) for array in found] != _TYPES:
            raise _damaged("has an array of another type")
        centre, centroids, offsets, rows, packed, n_probe, k, recall = found
        n_lists, width = centroids.shape
        shapes = (centre.shape, offsets.shape, packed.shape)
        if shapes != ((width,), (n_lists + 1,), (len(rows), width + 1)) or not (
            len(n_probe) == len(k) == len(recall) == 1
        ):
            raise _damaged("has an array of another shape")
        # `packed` decides only which pairs are computed exactly: any numbers are safe.
        if not (
            1 <= n_probe[0] <= n_lists
            and k[0] >= 1
            and offsets[0] == 0
            and offsets[-1] == len(rows)
            and (offsets[:-1] <= offsets[1:]).all()
            and np.isfinite(centre).all()
            and np.isfinite(centroids).all()
        ):
            raise _damaged("has numbers that make no sense")
        lists = Lists(centre, centroids, offsets, rows, packed)
        return cls(lists, int(n_probe[0]), int(k[0]), float(recall[0]))

    def _check(self, query: Points, reference: Points, k: int) -> None:
        rows, width = self.lists.rows, self.lists.centroids.shape[1]
        if k > self.k:
            raise _damaged(f"is for {self.k} neighbours, and {k} are asked for")
        if not query.key.shape[1:] == reference.key.shape[1:] == (width,):
            raise _damaged("is of keys of another shape")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(reference):
            raise _damaged("has rows beyond the reference")
        if np.bincount(rows, minlength=1).max() > 1:
            raise _damaged("has a row twice")


def build(key: Floats, subject: Whole, among: Whole, *, k: int) -> Index:
    """Index references.

    Args:
        key: [N, D], finite; among equal distances the earlier is nearer.
        subject: [N].
        among: [M], which of the N; ascending, at least one.
        k: The most neighbours that will be asked for.
    """
    reference = Points(key, subject, np.arange(len(key)))
    # Sums that threads share differ in their last digits from run to run.
    with threadpool_limits(1):
        lists = make_lists(key, subject, among, k=k)
        asked = np.random.default_rng(_SEED).permutation(among)[: 2 * _ASKED]
        exact = _exact(reference, among, asked, k)
        half = (len(asked) + 1) // 2
        n_probe = _enough_lists(lists, reference, asked[:half], exact[:half])
        found, _ = probe(lists, reference.take(asked[half:]), reference, k=k, n_probe=n_probe)
        recall = _recall(found, exact[half:])
    logger.info(
        "index of %d references in %d lists: looking through %d finds %.3f of the %d nearest, "
        "measured on %d references",
        len(among),
        len(lists),
        n_probe,
        recall,
        k,
        len(found),
    )
    return Index(lists, n_probe, k, recall)


def _exact(reference: Points, among: Whole, asked: Whole, k: int) -> Whole:
    rows, _ = nearest(
        reference.key[asked],
        reference.key[among],
        query_subject=reference.subject[asked],
        reference_subject=reference.subject[among],
        reference_row=among,
        k=k,
    )
    return rows


def _enough_lists(lists: Lists, reference: Points, asked: Whole, exact: Whole) -> int:
    """The fewest lists in which `WANTED` of the nearest [B, K] stand."""
    list_of = np.zeros(len(reference), dtype=np.int64)
    list_of[lists.rows] = np.repeat(np.arange(len(lists)), np.diff(lists.offsets))
    # The place of each list in the order in which a query looks through all of them.
    place = np.argsort(lists.closest(reference.key[asked], len(lists)), axis=1)
    needed = np.take_along_axis(place, list_of[exact], axis=1)[exact >= 0]
    if not len(needed):
        return 1
    return int(np.sort(needed)[math.ceil(WANTED * len(needed)) - 1]) + 1


def _recall(found: Whole, exact: Whole) -> float:
    """The share of the nearest [B, K] that is found; 1 where there is none."""
    there = exact >= 0
    both = (found[:, :, None] == exact[:, None]).any(1) & there
    return float(both.sum() / there.sum()) if there.any() else 1.0


def _damaged(what: str) -> BundleError:
    return BundleError(
        f"reference.safetensors: the index of the references {what}; write the bundle again, or "
        "prepare again"
    )
