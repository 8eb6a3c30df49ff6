"""Which logits of a head are about the same answer in a run and in the bundle it begins from."""

from clinical.answers import Answer, Regression, TimeToEvent
from clinical.errors import ConfigError
from clinical.model import ClinicalModel
from clinical.transfer.apart import WHERE
from clinical.transfer.tensors import HEADS

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

SHOWN = 5
"""Classes that a message names of each side."""


@dataclass(frozen=True)
class Heads:
    """The heads that are taken over.

    Attributes:
        rows: task -> [C] for each logit here that of the bundle, -1 for none.
        left: task -> why its head begins from scratch, of those that were wanted.
        new: task -> its classes that the bundle has not, which begin from scratch.
        scales: task of a value -> how many standard deviations of here are one of the bundle, and
            how many the bundle's mean lies above that of here.
    """

    rows: Mapping[str, NDArray[np.int64]]
    left: Mapping[str, str]
    new: Mapping[str, list[str]]
    scales: Mapping[str, tuple[float, float]]

    @classmethod
    def of(
        cls, tasks: Collection[str], ours: Mapping[str, Answer], theirs: Mapping[str, Answer]
    ) -> Self:
        """Of tasks that both have under one name, kind and unit, by what train taught of each.

        Raises:
            ConfigError: tasks are given, and none has an answer like the bundle's.
        """
        rows, left, new, scales = {}, {}, {}, {}
        for task in sorted(tasks):
            own, other = ours[task], theirs[task]
            if reason := _unlike(own, other):
                left[task] = reason
                continue
            rows[task] = _rows(own, other)
            if missing := [str(own.classes[place]) for place in np.flatnonzero(rows[task] < 0)]:
                new[task] = missing
            if isinstance(own, Regression) and isinstance(other, Regression):
                scales[task] = (other.sd / own.sd, (other.mean - own.mean) / own.sd)
        if left and not rows:
            told = "; ".join(f"{task} {reason}" for task, reason in left.items())
            raise ConfigError(f"{WHERE}.heads: no head can be taken over: {told}; leave heads out")
        return cls(rows, left, new, scales)

    @torch.no_grad()
    def restate(self, model: ClinicalModel) -> None:
        """Let heads that say a value in the bundle's standard deviations say it in those of here.

        Args:
            model: with the bundle's heads; changed in place.
        """
        for task, (factor, shift) in self.scales.items():
            linear = model.get_submodule(f"{HEADS}.{task}.linear")
            assert isinstance(linear, torch.nn.Linear)
            linear.weight.mul_(factor)
            linear.bias.mul_(factor).add_(shift)


def _unlike(ours: Answer, theirs: Answer) -> str:
    """Why no logit of a head says what one of the other says; empty where some do."""
    if isinstance(ours, TimeToEvent) and isinstance(theirs, TimeToEvent):
        alike = ours.edges == theirs.edges
        return "" if alike else "has other intervals of time than in the bundle"
    if not set(ours.classes) & set(theirs.classes):
        named = (_named(each.classes) for each in (ours, theirs))
        return "has the classes {} here and {} in the bundle".format(*named)
    return ""


def _rows(ours: Answer, theirs: Answer) -> NDArray[np.int64]:
    if not ours.shape:
        return np.zeros(1, dtype=np.int64)
    if isinstance(ours, TimeToEvent):
        return np.arange(ours.shape[0])
    place = {name: row for row, name in enumerate(theirs.classes)}
    return np.array([place.get(name, -1) for name in ours.classes], dtype=np.int64)


def _named(classes: Collection[str | None]) -> str:
    names = [str(name) for name in classes]
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
