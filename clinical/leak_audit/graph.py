"""The edges of the audited samples: whom they lead to, and whom they must not lead to."""

from clinical.cohort.fitted import Fitted, subject_hashes
from clinical.cohort.store import Store
from clinical.extract.schema import Extract
from clinical.leak_audit.line import Line
from clinical.relations import Relation

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import meds
import numpy as np
import polars as pl
from numpy.typing import NDArray

OWN, SPLITS, TIME = "own subject", "other splits", "time"

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Graph:
    """The edges of a prepared store, with what is known of both ends.

    Attributes:
        store: of the samples.
        fitted: the reference that it was prepared with.
        relations: by name.
    """

    store: Store
    fitted: Fitted
    relations: Mapping[str, Relation]

    @cached_property
    def edges(self) -> dict[str, tuple[Whole, Whole]]:
        """Relation -> samples [E] and rows of the memory [E]: references, then the context."""
        found = {}
        for name in self.relations:
            rows = self.store.neighbours(name)["rows"].take(np.arange(self.store.n_samples))
            sample, place = np.nonzero(rows >= 0)
            found[name] = (sample, rows[sample, place])
        return found

    @cached_property
    def own(self) -> Whole:
        """[N] hash of each sample's subject."""
        return _subjects(self.store, self.fitted)

    @cached_property
    def others(self) -> Whole:
        """[R + M] hash of the subject of each row of the memory."""
        context = self.store.context
        there = [] if context is None else [_subjects(context, self.fitted)]
        return np.concatenate([self.fitted.reference_subject, *there])

    @property
    def n_reference(self) -> int:
        """R."""
        return len(self.fitted.reference_subject)

    def contemporaries(self) -> dict[int, set[int]]:
        """Subject of a sample -> subjects of the context that its edges lead to."""
        found: dict[int, set[int]] = {}
        if self.store.context is None:
            return found
        here = self.store.samples["subject_id"].to_numpy()
        there = self.store.context.samples["subject_id"].to_numpy()
        for sample, other in self.edges.values():
            is_there = other >= self.n_reference
            pairs = zip(sample[is_there], other[is_there] - self.n_reference, strict=True)
            for who, whom in pairs:
                found.setdefault(int(here[who]), set()).add(int(there[whom]))
        return found

    def own_subject(self, change: str) -> Line:
        """That no edge leads to the sample's own subject, where it is among those looked at."""
        n_own = int(np.isin(self.own, self.others).sum()) if self.edges else 0
        own = [
            sample[self.others[other] == self.own[sample]] for sample, other in self.edges.values()
        ]
        return Line.found(OWN, change, n_own, len(np.unique(np.concatenate([[], *own]))))

    def planted(self) -> Fitted:
        """A reference in which a neighbour of every sample became the sample's own subject.

        It was chosen, and hence would be again if it were still somebody else.
        """
        subject, taken, served = self.fitted.reference_subject.copy(), set[int](), set[int]()
        for sample, other in self.edges.values():
            for who, row in zip(sample.tolist(), other.tolist(), strict=True):
                if row < self.n_reference and row not in taken and who not in served:
                    subject[row] = self.own[who]
                    taken.add(row)
                    served.add(who)
        return replace(self.fitted, reference_subject=subject)

    def time(self, scored: Extract, context: Extract | None) -> Line:
        """That relations in time look at nobody later, and only within one calendar."""
        when = self.store.samples["prediction_time"].dt.epoch("us").to_numpy()
        linked, wrong = set[int](), set[int]()
        for name, relation in self.relations.items():
            if relation.in_time:
                sample, other = self.edges[name]
                is_here = (other < self.n_reference) & self._is_of_one_calendar(scored)
                is_there = (other >= self.n_reference) & _share_a_calendar(scored, context)
                is_later = self._times(name)[other] > when[sample]
                linked.update(sample.tolist())
                wrong.update(sample[is_later | ~(is_here | is_there)].tolist())
        change = "later neighbours, other calendars"
        return Line.found(TIME, change, len(linked), len(wrong))

    def _times(self, name: str) -> Whole:
        """[R + M] microseconds, for a relation in time; never where its keys hold none."""
        unknown = np.full(self.n_reference, np.iinfo(np.int64).max)
        known = self.fitted.reference[name].get("time", unknown)
        if self.store.context is None:
            return known
        there = self.store.context.samples["prediction_time"].dt.epoch("us").to_numpy()
        return np.concatenate([known, there])

    def _is_of_one_calendar(self, scored: Extract) -> bool:
        is_same = self.fitted.dataset_name == scored.dataset_name
        return is_same and self.fitted.consistent_calendar and scored.consistent_calendar


def _subjects(store: Store, fitted: Fitted) -> Whole:
    subjects = store.samples["subject_id"].to_numpy()
    return subject_hashes(subjects, store.manifest["dataset_name"], fitted.salt)


def _share_a_calendar(scored: Extract, context: Extract | None) -> bool:
    if context is None:
        return False
    is_same = context.dataset_name == scored.dataset_name
    return is_same and context.consistent_calendar and scored.consistent_calendar


def other_splits(fitted: Fitted, splits: pl.DataFrame | None, dataset_name: str) -> Line:
    """That the reference holds nobody of tuning or held_out."""
    change = "subjects not in train as reference"
    if splits is None:
        return Line.found(SPLITS, change, 0, 0)
    hashes = subject_hashes(splits["subject_id"].to_numpy(), dataset_name, fitted.salt)
    is_reference = np.isin(hashes, fitted.reference_subject)
    is_train = (splits["split"] == meds.train_split).to_numpy()
    # If nobody of the extract is a reference, the model was trained on another one.
    n_others = int((~is_train).sum()) if is_reference.any() else 0
    return Line.found(SPLITS, change, n_others, int((is_reference & ~is_train).sum()))
