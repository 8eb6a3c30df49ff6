"""How surprising one modality of a sample is, given that of train samples."""

from clinical.typicality.density import Mahalanobis
from clinical.typicality.tails import Tails
from clinical.typicality.views import Table

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Flags = NDArray[np.bool_]
Folds = NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """One modality of some samples.

    Attributes:
        present: [B] bool.
        table: its variables, where it has such with values.
        summary: [B, D] what a network makes of it, where it has not; any finite value if absent.
    """

    present: Tensor
    table: Table | None
    summary: Tensor | None

    @classmethod
    def together(cls, parts: Sequence["Seen"]) -> "Seen":
        """Of several batches."""
        tables = [part.table for part in parts if part.table is not None]
        summaries = [part.summary for part in parts if part.summary is not None]
        table = None
        if tables:
            value, observed = ([getattr(t, key) for t in tables] for key in ("value", "observed"))
            table = Table(torch.cat(value), torch.cat(observed))
        present = torch.cat([part.present for part in parts])
        return cls(present, table, torch.cat(summaries) if summaries else None)

    def of(self, samples: Flags) -> "Seen":
        """Those of some samples."""
        at = torch.from_numpy(samples)
        table = None if self.table is None else Table(self.table.value[at], self.table.observed[at])
        summary = None if self.summary is None else self.summary[at]
        return Seen(self.present[at], table, summary)


@dataclass(frozen=True)
class Variables:
    """The surprise of variables, each by itself: of its statistics together, or of its absence.

    Attributes:
        distances: of the statistics of each variable.
        tails: of those distances.
        absent: [V] float64, surprise of a variable that is not observed.
        joint: one space of all variables' levels.
    """

    distances: Mahalanobis
    tails: Tails
    absent: Tensor
    joint: Mahalanobis

    @classmethod
    def fit(cls, table: Table, fold: Folds, subjects: Folds) -> tuple["Variables", Tensor]:
        """From samples with the modality; and what they get themselves, out of fold [N, 2]."""
        observed = table.observed.numpy()
        distances, away = Mahalanobis.crossed(table.value, observed, fold)
        everybody = np.ones((len(observed), 1), dtype=bool)
        joint, together = Mahalanobis.crossed(_levels(table, distances), everybody, fold)
        tails = Tails.fit(list(away.numpy().T), subjects, beyond=True)
        fitted = cls(distances, tails, _surprise_of_absence(observed), joint)
        return fitted, torch.cat([fitted._most(table, away), together], dim=1)

    def __call__(self, table: Table) -> Tensor:
        """[B, 2] the largest surprise of a variable, and the log distance of all levels."""
        away = self.distances.log_distance(table.value)
        joint = self.joint.log_distance(_levels(table, self.distances))
        return torch.cat([self._most(table, away), joint], dim=1)

    def _most(self, table: Table, away: Tensor) -> Tensor:
        """[B, 1] the largest surprise, by the log distances [B, V] of what is observed."""
        said = self.tails(away.masked_fill(~table.observed, torch.nan))
        return torch.where(table.observed, said, self.absent).amax(1, keepdim=True)


@dataclass(frozen=True)
class Modality:
    """The surprise of one modality.

    Attributes:
        variables: where it has such.
        summaries: one space of its summaries, where it has not.
        tails: of what these give for a sample, a tail each.
        absent: [] float64, surprise of a sample without the modality.
    """

    variables: Variables | None
    summaries: Mahalanobis | None
    tails: Tails
    absent: Tensor

    @classmethod
    def fit(cls, seen: Seen, fold: Folds, subjects: Folds) -> "Modality":
        """From train samples, of which those of a fold [N] are far from the others' or not.

        Args:
            seen: of N samples.
            fold: [N] of each one's person.
            subjects: [N] whose they are.
        """
        present = seen.present.numpy()
        known, own, whose = seen.of(present), fold[present], subjects[present]
        variables, summaries = None, None
        parts = torch.zeros(len(whose), 0)
        if known.table is not None:
            variables, parts = Variables.fit(known.table, own, whose)
        elif known.summary is not None:
            everybody = np.ones((len(whose), 1), dtype=bool)
            summaries, parts = Mahalanobis.crossed(known.summary[:, None], everybody, own)
        tails = Tails.fit(list(parts.numpy().T), whose, beyond=True)
        return cls(variables, summaries, tails, _surprise_of_absence(present[:, None])[0])

    def __call__(self, seen: Seen) -> Tensor:
        """[B] float64 surprise: the largest of its parts, less what is due to their number."""
        parts = self.tails(self._parts(seen))
        most = parts.amax(1) - np.log(parts.shape[1]) if parts.shape[1] else torch.zeros(len(parts))
        return torch.where(seen.present, most.clamp(min=0), self.absent)

    def _parts(self, seen: Seen) -> Tensor:
        """[B, P] what tails are of."""
        if self.variables is not None and seen.table is not None:
            return self.variables(seen.table)
        if self.summaries is not None and seen.summary is not None:
            return self.summaries.log_distance(seen.summary[:, None])
        return torch.zeros(len(seen.present), 0, dtype=torch.float64)

    def to_tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` reads."""
        parts: dict[str, Mahalanobis | Tails] = {"tails": self.tails}
        found = {"absent": self.absent.clone()}
        if self.variables is not None:
            parts |= {"distances": self.variables.distances, "variable_tails": self.variables.tails}
            parts |= {"joint": self.variables.joint}
            found["variable_absent"] = self.variables.absent
        if self.summaries is not None:
            parts["summaries"] = self.summaries
        for name, part in parts.items():
            found |= {f"{name}/{key}": tensor for key, tensor in part.to_tensors().items()}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Modality":
        """What `to_tensors` gave.

        Raises:
            KeyError, ValueError: they do not fit together.
        """
        variables, summaries = None, None
        if "variable_absent" in tensors:
            variables = Variables(
                Mahalanobis.from_tensors(within(tensors, "distances")),
                Tails.from_tensors(within(tensors, "variable_tails")),
                tensors["variable_absent"],
                Mahalanobis.from_tensors(within(tensors, "joint")),
            )
        elif "summaries/mean" in tensors:
            summaries = Mahalanobis.from_tensors(within(tensors, "summaries"))
        tails = Tails.from_tensors(within(tensors, "tails"))
        return cls(variables, summaries, tails, tensors["absent"])


def within(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those whose names begin with `name` and a slash, without it."""
    own = f"{name}/"
    return {key.removeprefix(own): t for key, t in tensors.items() if key.startswith(own)}


def _levels(table: Table, distances: Mahalanobis) -> Tensor:
    """[B, 1, V] the first statistic of each variable around its mean, 0 where not observed."""
    level = table.value[:, :, 0].double() - distances.mean[:, 0]
    return level.masked_fill(~table.observed, 0.0)[:, None]


def _surprise_of_absence(observed: Flags) -> Tensor:
    """[V] float64 by how many of `observed` [N, V] are not; never of nothing."""
    n = len(observed)
    return torch.from_numpy(-np.log((1 + (~observed).sum(0)) / (n + 2)))
