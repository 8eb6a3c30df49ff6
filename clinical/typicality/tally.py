"""Counts of a cohort, variable by variable: each person counts once, however many samples."""

from clinical.typicality.views import Table, normal_scores

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EDGES = normal_scores(torch.linspace(0, 1, 11))
"""Between the bins: the extreme quantiles of train, and its deciles."""

BINS = len(EDGES) + 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """Of R variables.

    Attributes:
        total: [R] weight of the samples.
        seen: [R] of those in which the variable is observed.
        bins: [R, BINS] of those by the variable's level; zero for one without a level.
    """

    total: Floats
    seen: Floats
    bins: Floats

    @classmethod
    def of(cls, table: Table, weight: Floats) -> "Tally":
        """Of some samples with their weights [B]."""
        n_variables = table.observed.shape[1]
        observed = table.observed.numpy()
        bins = np.zeros(n_variables * BINS)
        if table.value.shape[2]:
            bin_of = torch.bucketize(table.value[:, :, 0].contiguous(), EDGES).numpy()
            sample, variable = np.nonzero(observed)
            cell = variable * BINS + bin_of[sample, variable]
            bins += np.bincount(cell, weight[sample], minlength=n_variables * BINS)
        total = np.full(n_variables, weight.sum())
        return cls(total, weight @ observed, bins.reshape(n_variables, BINS))

    @classmethod
    def nothing(cls, n_variables: int) -> Self:
        """Of no samples at all."""
        return cls(np.zeros(n_variables), np.zeros(n_variables), np.zeros((n_variables, BINS)))

    def __len__(self) -> int:
        return len(self.total)

    def after(self, n_variables: int) -> "Tally":
        """Of all variables but the first ones."""
        return Tally(*(getattr(self, field.name)[n_variables:] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence["Tally"]) -> "Tally":
        """Of other variables below each other."""
        return cls(
            *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(cls))
        )

    def __add__(self, other: "Tally") -> "Tally":
        """Of both one's samples."""
        return Tally(self.total + other.total, self.seen + other.seen, self.bins + other.bins)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(
            *(np.array(content[field.name], dtype=np.float64) for field in fields(cls)),
        )

    def to_tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` reads."""
        return {field.name: torch.from_numpy(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], *, n_variables: int) -> Self:
        """What `to_tensors` gave.

        Raises:
            ValueError: it is of other variables.
        """
        found = cls(*(tensors[field.name].double().numpy() for field in fields(cls)))
        shapes = (found.total.shape, found.seen.shape, found.bins.shape)
        if shapes != ((n_variables,), (n_variables,), (n_variables, BINS)):
            raise ValueError("drift: what was counted is of other variables")
        return found


def weights(subjects: NDArray[np.int64]) -> Floats:
    """[N] for each sample one over the number of its subject's."""
    _, whose, samples = np.unique(subjects, return_inverse=True, return_counts=True)
    shares: Floats = (1 / samples)[whose]
    return shares


def of_p_values(p: Tensor, seen: Tensor) -> Table:
    """p-values [B, R] as variables, the smallest the highest: even, they are what train's are."""
    return Table(normal_scores((1 - p.nan_to_num()).float())[:, :, None], seen)
