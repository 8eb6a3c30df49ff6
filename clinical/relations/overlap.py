"""Exact neighbours by what lists of codes share, from inverted lists.

Weights are whole numbers, so that who else is asked for changes nothing.
"""

from clinical.relations.neighbours import FARTHEST, GRID, Floats, Whole

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

HEAVIEST = 2**30
"""All codes of a list weigh less than that together."""

_PAIRS = 4_000_000  # pairs of codes compared at once

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Postings:
    """For each code of a vocabulary those references that have it.

    Attributes:
        member: [E] int32 places of references, code by code, ascending in each.
        offset: [V + 1] int64; code i has `member[offset[i]:offset[i + 1]]`, none without weight.
        total: [M] int64 weight of all codes of each reference.
    """

    member: NDArray[np.int32]
    offset: Whole
    total: Whole

    @classmethod
    def of(cls, codes: Codes, weight: Whole) -> Self:
        """Of the lists of the references [M, C], each code at most once, -1 = none."""
        counts = np.append(weight, 0)[codes] > 0
        code, first = codes[counts], np.append(0, np.cumsum(counts.sum(1)))
        matrix = csr_array((weight[code], code, first), shape=(len(codes), len(weight)))
        by_code = matrix.T.tocsr()
        offset = by_code.indptr.astype(np.int64)
        return cls(by_code.indices.astype(np.int32), offset, matrix.sum(axis=1, dtype=np.int64))


def heaviest_overlap(
    query: Codes,
    reference: Postings,
    *,
    weight: Whole,
    typical: int,
    query_subject: Whole,
    reference_subject: Whole,
    k: int,
) -> tuple[Whole, Floats]:
    """The k references, of other subjects, of the highest score: exactly.

    The score is the weight of the shared codes over `typical` + the weight of all codes of the
    reference, rounded to `GRID`. A sample costs the sum of the lengths of its codes' lists.

    Args:
        query: [N, C], rows of the vocabulary, each at most once; -1 = none.
        reference: M references, in order: the first wins among equal scores.
        weight: [V], at least 0, those of a list less than `HEAVIEST` together.
        typical: Above 0.
        query_subject: [N].
        reference_subject: [M]; those of the sample's own subject are passed over.
        k: K.

    Returns:
        Places of references [N, K] (-1 = none) and scores [N, K], descending; 0 where there is
        none.
    """
    position, score = np.full((len(query), k), -1), np.zeros((len(query), k))
    search = _Search(reference, weight, typical)
    own = np.flatnonzero(np.isin(reference_subject, query_subject))
    own = own[np.argsort(reference_subject[own], kind="stable")]
    whose = reference_subject[own]
    ends = (np.searchsorted(whose, query_subject, side) for side in ("left", "right"))
    for sample, (first, stop) in enumerate(zip(*ends, strict=True)):
        place, steps = search.best(query[sample], own[first:stop], k)
        position[sample, : len(place)] = place
        score[sample, : len(place)] = steps * GRID
    return position, score


class _Search:
    """References, and what each shares with the sample that is asked for.

    Args:
        reference: M of them.
        weight: [V].
        typical: See `heaviest_overlap`.
    """

    def __init__(self, reference: Postings, weight: Whole, typical: int) -> None:
        self._lists = reference
        self._weight = weight
        self._divisor = typical + reference.total
        self._about = (1 / self._divisor).astype(np.float32)
        # All 0 between two samples: setting it up for each would cost more than the search.
        self._shared = np.zeros(len(reference.total), dtype=np.int32)

    def best(self, codes: Codes, own: Whole, k: int) -> tuple[Whole, Whole]:
        """At most k places of references that aren't `own`, and scores in steps of `GRID`."""
        place, common = self._walk(codes)
        # Most can be told from the best without what is exact about a score, and slow.
        about = common * self._about[place]
        if len(own):
            about[np.isin(place, own)] = -1
        least = np.partition(about, -k)[-k] if len(about) > k else 0
        some = np.flatnonzero(about >= max(least - 3 * GRID, 0))
        steps = np.rint(common[some] / self._divisor[place[some]] / GRID).astype(np.int64)
        # Score and place in one whole number: ties are decided exactly.
        order = np.sort((FARTHEST - steps << 32) | place[some])[:k]
        return order & 0xFFFFFFFF, FARTHEST - (order >> 32)

    def _walk(self, codes: Codes) -> tuple[Whole, Floats]:
        """Who has any of the codes, and the weight of those that each has."""
        member, offset = self._lists.member, self._lists.offset
        named = [np.empty(0, dtype=np.int32)]
        for code in codes[codes >= 0].tolist():
            members = member[offset[code] : offset[code + 1]]
            before = self._shared[members]
            named.append(members[before == 0])
            self._shared[members] = before + self._weight[code]
        place = np.concatenate(named)
        common = self._shared[place].astype(np.float64)
        self._shared[place] = 0
        return place.astype(np.int64), common


def shared_codes(query: Codes, reference: Codes, position: Whole, *, n_kept: int) -> Codes:
    """The first codes of each query that its neighbours have too.

    Args:
        query: [N, C], -1 = none.
        reference: [M, C], -1 = none.
        position: [N, K] in `reference`; -1 = none.
        n_kept: S.

    Returns:
        [N, K, S] in the query's order, -1 = none.
    """
    found = np.full((*position.shape, n_kept), -1, dtype=np.int32)
    sample, place = np.nonzero(position >= 0)
    step = max(1, _PAIRS // (query.shape[1] * reference.shape[1]))
    for start in range(0, len(sample), step):
        some, where = sample[start : start + step], place[start : start + step]
        own, other = query[some], reference[position[some, where]]
        has = (own >= 0) & (own[:, :, None] == other[:, None]).any(2)
        front = np.argsort(~has, axis=1, kind="stable")[:, :n_kept]
        chosen = np.take_along_axis(np.where(has, own, -1), front, 1)
        found[some, where, : chosen.shape[1]] = chosen
    return found
