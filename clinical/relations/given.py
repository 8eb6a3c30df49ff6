"""Patients whom the user knows to be related: a household, a donor, a shared doctor."""

from clinical.relations.keys import Edges, Given, Inputs, Keyed, Keys, check_array, spread
from clinical.relations.neighbours import Floats, Whole, edges

import logging
from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_PAIRS = 2_000_000  # of an edge and a reference, held at once


class GivenEdges:
    """The references to which a table of the extract leads, those of the greatest weight first.

    The table is `edges/<name of the relation>.parquet` (data_schemas/edges.json) of the extract
    that is trained on or scored, each with its own; a bundle holds none of it. An edge leads to
    all samples of the other subject, or to the one that it names, as far as they are references:
    train samples, which a bundle knows by salted hashes of the data set's name and the subject,
    so that only an extract of the same name leads to them. An edge counts from its `time` on.

    A relation in time also looks at the contemporaries of a context, and at nobody whose
    prediction time is later than the sample's.

    Args:
        in_time: Whether samples later than one's own are kept from it, which takes a consistent
            calendar. Say false where the calendar is not, or where a later sample of a train
            subject may be looked at, as `similar` does; then a context adds nobody.
    """

    in_time: bool = True
    by_embedding: bool = False
    fits_on: ClassVar[int | None] = 0
    from_table: ClassVar[bool] = True
    feeds: frozenset[str] = frozenset()

    def __init__(self, *, in_time: bool = True) -> None:
        self.in_time = in_time
        self.codes: str | None = None
        self.window_hours: float | None = None

    def check(self, modalities: Collection[str]) -> None:
        """Works with any: the table says who is related."""

    def fit(self, reference: Inputs) -> Keys:
        """Nothing to learn."""
        return {}

    def keys(self, inputs: Inputs, parameters: Keys) -> Keys:
        """The hash of the sample, and the prediction time if others are compared with it."""
        keys: Keys = {"sample": inputs.sample}
        return keys | ({"time": inputs.prediction_time} if self.in_time else {})

    def index(self, reference: Keyed, parameters: Keys, *, k: int) -> Keys:
        """Nothing: the table says who is whose neighbour."""
        return {}

    def neighbours(self, samples: Keyed, reference: Keyed, parameters: Keys, *, k: int) -> Edges:
        """The k references of the greatest weight; the lower row wins among equal ones."""
        rows, weight = np.full((len(samples), k), -1), np.zeros((len(samples), k))
        given = samples.given
        if given is None or not len(given):
            return edges(rows, weight)
        by_subject = np.argsort(reference.subject, kind="stable")
        ordered = reference.subject[by_subject]
        first, stop = (np.searchsorted(ordered, given.subject, side) for side in ("left", "right"))
        _tell(given, samples, stop > first)
        for block in _blocks(given.sample, stop - first):
            edge, place = spread(first[block], stop[block])
            edge, other = edge + block.start, by_subject[place]
            admitted = self._is_admitted(samples, reference, edge, other)
            edge, other = edge[admitted], other[admitted]
            sample, close = given.sample[edge], given.weight[edge].astype(np.float64)
            sample, row, close, rank = _strongest(sample, reference.row[other], close)
            kept = rank < k
            rows[sample[kept], rank[kept]] = row[kept]
            weight[sample[kept], rank[kept]] = close[kept]
        return edges(rows, weight)

    def _is_admitted(
        self, samples: Keyed, reference: Keyed, edge: Whole, other: Whole
    ) -> NDArray[np.bool_]:
        """[P] bool for pairs of an edge of `samples` and a reference of the subject it leads to."""
        assert samples.given is not None
        sample, meant = samples.given.sample[edge], samples.given.other[edge]
        admitted: NDArray[np.bool_] = reference.subject[other] != samples.subject[sample]
        if len(other):
            admitted &= (meant == 0) | (meant == reference.keys["sample"][other])
            if self.in_time:
                admitted &= reference.keys["time"][other] <= samples.keys["time"][sample]
        return admitted

    def check_fitted(
        self,
        parameters: Keys,
        reference: Keys,
        *,
        n_reference: int,
        sizes: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Refuse keys that are not a hash, and a time if there are times, for every reference."""
        for name in ("sample", *(["time"] if self.in_time else [])):
            check_array(reference, name, kind="i", shape=(n_reference,))


def _tell(given: Given, samples: Keyed, is_known: NDArray[np.bool_]) -> None:
    """How many edges lead to nobody who may be looked at."""
    is_own = given.subject == samples.subject[given.sample]
    if n_own := int(is_own.sum()):
        logger.info(
            "%s: %s edges of a subject to itself are passed over", given.where, f"{n_own:,}"
        )
    if n_lost := int((~is_known & ~is_own).sum()):
        logger.info(
            "%s: %s of %s edges known at the prediction times lead to subjects that are no "
            "references (not in train, nor in the context of a relation in time); they are left "
            "out",
            given.where,
            f"{n_lost:,}",
            f"{len(given):,}",
        )


def _blocks(sample: Whole, reach: Whole) -> Iterator[slice]:
    """Runs of edges, all of a sample together, that lead to about `_PAIRS` references."""
    total = np.cumsum(np.bincount(sample, weights=reach)).astype(np.int64)
    number = np.concatenate([[0], total[:-1]])[sample] // _PAIRS
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(sample)], strict=True):
        yield slice(int(start), int(stop))


def _strongest(sample: Whole, row: Whole, weight: Floats) -> tuple[Whole, Whole, Floats, Whole]:
    """Each pair of a sample and a reference once, with its greatest weight and its rank."""
    order = np.lexsort((-weight, row, sample))
    again = np.zeros(len(order), dtype=bool)
    again[1:] = (np.diff(sample[order]) == 0) & (np.diff(row[order]) == 0)
    order = order[~again]
    order = order[np.lexsort((row[order], -weight[order], sample[order]))]
    rank = np.arange(len(order)) - np.searchsorted(sample[order], sample[order])
    return sample[order], row[order], weight[order], rank
