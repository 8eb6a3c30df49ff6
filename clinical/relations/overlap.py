"""Exact neighbours by what lists of codes share, from inverted lists.

Each sample is asked for by itself and weights are whole numbers, so that who else is asked for
changes nothing.
"""

from clinical.cohort.columns import Array
from clinical.relations.neighbours import GRID, Floats, Whole

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEAVIEST = 2**30
"""All codes of a list weigh less than that together."""

_OWN = -HEAVIEST
_PAIRS = 4_000_000  # pairs of codes compared at once

Codes = NDArray[np.int32]


def heaviest_overlap(
    query: Codes,
    reference: Codes,
    *,
    weight: Whole,
    typical: int,
    query_subject: Whole,
    reference_subject: Whole,
    reference_row: Whole,
    k: int,
) -> tuple[Whole, Floats]:
    """The k references, of other subjects, of the highest score: exactly.

    The score is the weight of the shared codes over `typical` + the weight of all codes of the
    reference, rounded to `GRID`. The lists of a sample's codes are walked from the heaviest on,
    until what is left could not lift a reference that none of them names among the k (the bound
    of Turtle & Flood, 1995, doi:10.1016/0306-4573(95)00020-H).

    Args:
        query: [N, C], rows of the vocabulary, each at most once, the heaviest first; -1 = none.
        reference: [M, C], each at most once; -1 = none.
        weight: [V], at least 0, those of a list less than `HEAVIEST` together.
        typical: Above 0.
        query_subject: [N].
        reference_subject: [M]; those of the sample's own subject are passed over.
        reference_row: [M], each once; the lower wins among equal scores.
        k: K.

    Returns:
        Positions in `reference` [N, K] (-1 = none) and scores [N, K], descending; 0 where there
        is none.
    """
    position, score = np.full((len(query), k), -1), np.zeros((len(query), k))
    by_row = np.argsort(reference_row)
    index = _Index.of(reference[by_row], weight, typical)
    subject = reference_subject[by_row]
    by_subject = np.argsort(subject, kind="stable")
    ends = [
        np.searchsorted(subject[by_subject], query_subject, side=side) for side in ("left", "right")
    ]
    for sample, (first, stop) in enumerate(zip(*ends, strict=True)):
        place, steps = index.search(query[sample], by_subject[first:stop], k=k)
        position[sample, : len(place)] = by_row[place]
        score[sample, : len(place)] = steps * GRID
    return position, score


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


@dataclass(frozen=True)
class _Index:
    """References, and for each code the list of those that have it.

    Attributes:
        codes: [M, C].
        lists: V lists of references, ascending; none for a code without weight.
        weight: [V + 1], a last 0 for none.
        typical: See `heaviest_overlap`.
        divisor: [M].
        shared: [M] weight shared with the sample that is asked for; all 0 between two of them.
        own: [V + 1] weight of each code that this sample has; the same.
    """

    codes: Codes
    lists: list[NDArray[np.int32]]
    weight: Whole
    typical: int
    divisor: Floats
    shared: NDArray[np.int32]
    own: NDArray[np.int32]

    @classmethod
    def of(cls, codes: Codes, weight: Whole, typical: int) -> "_Index":
        weight = np.append(weight, 0)
        reference, slot = np.nonzero(weight[codes] > 0)
        code = codes[reference, slot]
        members = reference[np.argsort(code, kind="stable")].astype(np.int32)
        ends = np.cumsum(np.bincount(code, minlength=len(weight) - 1))
        return cls(
            codes=codes,
            lists=np.split(members, ends[:-1]),
            weight=weight,
            typical=typical,
            divisor=(typical + weight[codes].sum(1, dtype=np.int64)).astype(np.float64),
            shared=np.zeros(len(codes), dtype=np.int32),
            own=np.zeros(len(weight), dtype=np.int32),
        )

    def search(self, query: Codes, passed_over: Whole, *, k: int) -> tuple[Whole, Floats]:
        """At most k places of references, best first, and their scores in steps of `GRID`."""
        self.shared[passed_over] = _OWN
        named, left = self._walk(query[self.weight[query] > 0], k)
        place, common = named, self.shared[named].astype(np.int64)
        if left:
            place = self._hopeful(named, common, left, k)
            common = self._in_common(query, place)
        steps = _steps(common, self.divisor[place])
        self.shared[named] = 0
        self.shared[passed_over] = 0
        among = np.flatnonzero(steps >= _kth(steps, k))
        best = among[np.lexsort((place[among], -steps[among]))[:k]]
        return place[best], steps[best]

    def _walk(self, codes: Codes, k: int) -> tuple[Whole, int]:
        """The references that have one of the first codes, and the weight of the codes left."""
        weights = self.weight[codes].tolist()
        walked, left = 0, sum(weights)
        named: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
        for code, weight in zip(codes.tolist(), weights, strict=True):
            # While more is left than walked through, what is left could always do better.
            if left < walked and self._is_settled(np.concatenate(named), left, k):
                break
            members = self.lists[code]
            named.append(members[self.shared[members] == 0])
            self.shared[members] += weight
            walked, left = walked + weight, left - weight
        return np.concatenate(named).astype(np.int64), left

    def _is_settled(self, named: Array, left: int, k: int) -> bool:
        """A reference not named shares what is left at most, and then has no other codes."""
        bound = _steps(np.array(left), np.array(self.typical + left))
        return bool(self._threshold(named, self.shared[named], left, k) > bound)

    def _threshold(self, named: Array, common: Array, above: int, k: int) -> float:
        """The k-th best score of references that share more than `above`, -1 if fewer do."""
        some = common > above
        return _kth(_steps(common[some], self.divisor[named[some]]), k)

    def _hopeful(self, named: Whole, common: Array, left: int, k: int) -> Whole:
        """Those that what is left might lift among the k."""
        threshold = self._threshold(named, common, left, k)
        least = (threshold - 1) * GRID
        # What a score takes at least, of a reference without other codes: spares most divisions.
        some = common + left >= least * self.typical / (1 - least)
        named, common = named[some], common[some]
        return named[_steps(common + left, self.divisor[named]) >= threshold]

    def _in_common(self, query: Codes, place: Whole) -> Whole:
        """[P] weight of the codes that a query shares with references."""
        self.own[query] = self.weight[query]
        found: Whole = self.own[self.codes[place]].sum(1, dtype=np.int64)
        self.own[query] = 0
        return found


def _steps(shared: Array, divisor: Floats) -> Floats:
    """Scores; more shared never gives less, so that bounds hold to the last digit."""
    scores: Floats = np.rint(shared / divisor / GRID)
    return scores


def _kth(steps: Floats, k: int) -> float:
    """The k-th greatest, -1 if there are fewer."""
    return float(np.partition(steps, -k)[-k]) if len(steps) >= k else -1.0
