"""How typical samples are of those a model was trained on."""

from clinical.batch import ClinicalBatch
from clinical.conformal import FEWEST
from clinical.typicality.drift import Variable
from clinical.typicality.surprise import Modality, Seen, within
from clinical.typicality.tails import Tails
from clinical.typicality.tally import Tally, of_p_values, weights
from clinical.typicality.views import Table, table_of

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FOLDS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Looked:
    """What is looked at of some samples.

    Attributes:
        seen: modality -> what its surprise is read from.
        tables: modality -> its variables, where it has such.
    """

    seen: Mapping[str, Seen]
    tables: Mapping[str, Table]

    def __len__(self) -> int:
        return max((len(seen.present) for seen in self.seen.values()), default=0)

    @classmethod
    def at(
        cls,
        batch: ClinicalBatch,
        summaries: Tensor | None,
        variables: Mapping[str, Sequence[str]],
    ) -> "Looked":
        """At a batch.

        Args:
            batch: the samples.
            summaries: [B, M, D] what a network makes of each modality; None without a network.
            variables: modality -> names of its variables, in the order of the batch's modalities.
        """
        seen, tables = {}, {}
        for place, (name, names) in enumerate(variables.items()):
            container = batch.inputs[name]
            table = table_of(container, len(names)) if names else None
            if table is not None:
                tables[name] = table
            valued = table if table is not None and table.value.shape[2] else None
            summary = None if summaries is None or valued is not None else summaries[:, place]
            seen[name] = Seen(container.present, valued, summary)
        return cls(seen, tables)


@dataclass(frozen=True)
class Typicality:
    """What is known of train, to tell how typical a sample is, and whether a cohort has drifted.

    A sample is as surprising as the most surprising of its modalities; its p-value is the share of
    the people of `calibrate` that surprise no less (Vovk, Gammerman & Shafer 2005), whose samples
    share one person's weight: of samples drawn at random from those of new people, a person one, at
    most 5 % have one of 0.05 or less, whatever the densities are worth.

    Attributes:
        variables: modality -> names of its variables.
        modalities: modality -> how surprising it is.
        calibrated: a tail for each modality, and one for everything; of surprise on `calibrate`.
        n_calibrated: people that they come from; 0 of fewer than ten, who give none.
        reference: the rows of `rows`, counted on train, of p-values on `calibrate`.
    """

    variables: Mapping[str, tuple[str, ...]]
    modalities: Mapping[str, Modality]
    calibrated: Tails
    n_calibrated: int
    reference: Tally

    @property
    def rows(self) -> list[Variable]:
        """Everything, the modalities, and the variables of each: what a tally counts."""
        return [
            Variable("everything"),
            *(Variable("modality", name) for name in self.modalities),
            *(
                Variable("variable", m, name)
                for m, names in self.variables.items()
                for name in names
            ),
        ]

    def look(self, batch: ClinicalBatch, summaries: Tensor | None) -> Looked:
        """See `Looked.at`."""
        return Looked.at(batch, summaries, self.variables)

    def surprise(self, looked: Looked) -> Tensor:
        """[B, M + 1] float64, of each modality and of everything."""
        each = [modality(looked.seen[name]) for name, modality in self.modalities.items()]
        by_modality = torch.stack(each, dim=1)
        return torch.cat([by_modality, by_modality.amax(1, keepdim=True)], dim=1)

    def p_values(self, surprise: Tensor) -> Tensor:
        """[B, M + 1] of `surprise`; NaN where nothing was calibrated."""
        if not self.n_calibrated:
            return torch.full_like(surprise, torch.nan)
        return torch.exp(-self.calibrated(surprise))

    def tally(self, looked: Looked, p_values: Tensor, weight: Floats) -> Tally:
        """Of samples with their weights [B], in the order of `rows`."""
        return Tally.joined(
            [self._tally_p(looked, p_values, weight), _tally_tables(looked, weight)]
        )

    def _tally_p(self, looked: Looked, p_values: Tensor, weight: Floats) -> Tally:
        present = [seen.present for seen in looked.seen.values()]
        seen = torch.stack([torch.stack(present).any(0), *present], dim=1)
        counted = weight if self.n_calibrated else np.zeros_like(weight)
        return Tally.of(of_p_values(p_values.roll(1, dims=1), seen), counted)

    def calibrate(self, looked: Sequence[Looked], subjects: NDArray[np.int64]) -> "Typicality":
        """With p-values from samples that nothing was fitted on, and how these spread there.

        Args:
            looked: at these samples, in batches.
            subjects: [N] whose they are, in the same order.
        """
        n_people = len(np.unique(subjects))
        if n_people < FEWEST:
            return self
        surprise = [self.surprise(each) for each in looked]
        tails = Tails.fit(list(torch.cat(surprise).numpy().T), subjects, beyond=False)
        done = replace(self, calibrated=tails, n_calibrated=n_people)
        shares = np.split(weights(subjects), np.cumsum([len(each) for each in looked])[:-1])
        batches = zip(looked, surprise, shares, strict=True)
        counted = [done._tally_p(each, done.p_values(s), share) for each, s, share in batches]
        spread = sum(counted[1:], counted[0])
        return replace(done, reference=Tally.joined([spread, self.reference.after(len(spread))]))

    def to_json(self) -> dict[str, Any]:
        """The part of it that is words."""
        return {
            "variables": {name: list(codes) for name, codes in self.variables.items()},
            "n_calibrated": self.n_calibrated,
        }

    def to_tensors(self) -> dict[str, Tensor]:
        """The part of it that is numbers."""
        parts: dict[str, Modality | Tails | Tally] = {
            "calibrated": self.calibrated,
            "reference": self.reference,
            **{f"modality/{name}": each for name, each in self.modalities.items()},
        }
        return {
            f"{name}/{key}": tensor.contiguous()
            for name, part in parts.items()
            for key, tensor in part.to_tensors().items()
        }

    @classmethod
    def read(
        cls, words: Mapping[str, Any], tensors: Mapping[str, Tensor], modalities: Sequence[str]
    ) -> "Typicality":
        """What `to_json` and `to_tensors` gave, of a model with these modalities.

        Raises:
            KeyError, ValueError: they do not fit together.
        """
        variables = {name: tuple(words["variables"][name]) for name in modalities}
        n_rows = 1 + len(modalities) + sum(len(names) for names in variables.values())
        calibrated = Tails.from_tensors(within(tensors, "calibrated"))
        n_calibrated = int(words["n_calibrated"])
        if n_calibrated and len(calibrated) != len(modalities) + 1:
            raise ValueError("typicality: calibrated for other modalities")
        return cls(
            variables,
            {m: Modality.from_tensors(within(tensors, f"modality/{m}")) for m in modalities},
            calibrated,
            n_calibrated,
            Tally.from_tensors(within(tensors, "reference"), n_variables=n_rows),
        )


def fit_typicality(
    looked: Sequence[Looked],
    subjects: NDArray[np.int64],
    variables: Mapping[str, Sequence[str]],
    generator: np.random.Generator,
) -> Typicality:
    """Densities of train samples, not calibrated.

    How far apart samples lie is told by densities of other people, in folds.

    Args:
        looked: at all train samples, in batches.
        subjects: [N] whose they are, in the same order.
        variables: see `Looked.at`.
        generator: for who is in which fold.
    """
    people, whose = np.unique(subjects, return_inverse=True)
    fold = (generator.permutation(len(people)) % FOLDS)[whose]
    modalities = {
        name: Modality.fit(Seen.together([each.seen[name] for each in looked]), fold, whose)
        for name in variables
    }
    weight = weights(subjects)
    counted, start = [], 0
    for each in looked:
        end = start + len(each)
        counted.append(_tally_tables(each, weight[start:end]))
        start = end
    reference = Tally.joined([Tally.nothing(1 + len(variables)), sum(counted[1:], counted[0])])
    names = {name: tuple(codes) for name, codes in variables.items()}
    return Typicality(names, modalities, Tails.fit([], beyond=False), 0, reference)


def _tally_tables(looked: Looked, weight: Floats) -> Tally:
    """Of the variables of all modalities, in their order."""
    return Tally.joined([Tally.nothing(0), *(Tally.of(t, weight) for t in looked.tables.values())])
