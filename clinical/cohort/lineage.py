"""From whom the weights of a bundle were learned: its own run's subjects, and its ancestors'."""

from clinical.cohort.hashes import number_hashes, subject_hashes

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

LINEAGE = "lineage"
"""The key of what is written down, and what the arrays' names begin with."""


@dataclass(frozen=True)
class Learned:
    """The subjects that one run learned from, as pseudonyms.

    Attributes:
        dataset_name: of its extract.
        salt: of the hashes.
        subject: [S] int64, ascending: salted hashes of (dataset_name, subject_id).
        number: [S] int64, ascending: the same of the subject_id alone, so that the same people are
            noticed in an extract of another name.
    """

    dataset_name: str
    salt: str
    subject: NDArray[np.int64]
    number: NDArray[np.int64]

    @classmethod
    def of(cls, subjects: NDArray[np.int64], *, dataset_name: str, salt: str) -> Self:
        """Of subject_ids [n], each as often as it likes."""
        unique = np.unique(subjects)
        subject = np.sort(subject_hashes(unique, dataset_name, salt))
        return cls(dataset_name, salt, subject, np.sort(number_hashes(unique, salt)))

    def knows(self, subjects: NDArray[np.int64], dataset_name: str) -> NDArray[np.bool_]:
        """[n] which subjects [n] of a data set it learned from."""
        return np.isin(subject_hashes(subjects, dataset_name, self.salt), self.subject)

    def shares_numbers(self, subjects: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[n] which subject_ids [n] those it learned from have too, in whatever data set."""
        return np.isin(number_hashes(subjects, self.salt), self.number)


Lineage = Sequence[Learned]
"""A bundle's own run first, then the one that it began from, and so on; empty of a store."""


def is_known(lineage: Lineage, subjects: NDArray[np.int64], dataset_name: str) -> NDArray[np.bool_]:
    """[n] which subjects [n] of a data set any of the runs learned from."""
    known = np.zeros(len(subjects), dtype=np.bool_)
    for each in lineage:
        known |= each.knows(subjects, dataset_name)
    return known


def to_json(lineage: Lineage) -> list[dict[str, str]]:
    """What is written down beside the arrays."""
    return [{"dataset_name": each.dataset_name, "salt": each.salt} for each in lineage]


def to_arrays(lineage: Lineage) -> dict[str, NDArray[np.int64]]:
    """Name -> array."""
    return {
        f"{LINEAGE}/{place}/{name}": getattr(each, name)
        for place, each in enumerate(lineage)
        for name in ("subject", "number")
    }


def read_lineage(
    plain: Sequence[Mapping[str, str]], arrays: Mapping[str, NDArray[Any]]
) -> tuple[Learned, ...]:
    """Of what `to_json` and `to_arrays` wrote.

    Raises:
        KeyError: an array is missing.
    """
    return tuple(
        Learned(
            each["dataset_name"],
            each["salt"],
            arrays[f"{LINEAGE}/{place}/subject"],
            arrays[f"{LINEAGE}/{place}/number"],
        )
        for place, each in enumerate(plain)
    )
