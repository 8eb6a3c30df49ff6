"""The variables that a sample has of a modality, and the modality without some of them."""

from clinical.containers import CodeSet, Container, TimeSeries, Vector

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Apart:
    """How a container is taken apart.

    Attributes:
        rows: of the vocabulary that stand in the container of one sample.
        less: (container of one sample, [S, V] bool of the vocabulary) -> container of S samples,
            the variables of each as if never recorded.
    """

    rows: Callable[[Any], Tensor]
    less: Callable[[Any, Tensor], Container]


def _measured(events: TimeSeries) -> Tensor:
    return torch.cat([events.variable[events.mask], events.summary_observed[0].nonzero()[:, 0]])


def _unmeasured(events: TimeSeries, gone: Tensor) -> TimeSeries:
    size, n_summaries = len(gone), events.summary.shape[1]
    again = {
        name: getattr(events, name).expand(size, *[-1] * (getattr(events, name).dim() - 1))
        for name in ("variable", "value", "time_hours", "summary")
    }
    kept = ~gone.gather(1, again["variable"])
    return TimeSeries(
        **again,
        mask=events.mask & kept,
        observed=events.observed & kept,
        summary_observed=events.summary_observed & ~gone[:, :n_summaries],
    )


def _unknown(static: Vector, gone: Tensor) -> Vector:
    value = static.value.expand(len(gone), -1)
    return Vector(value=value, observed=static.observed & ~gone)


def _uncoded(codes: CodeSet, gone: Tensor) -> CodeSet:
    code = codes.code.expand(len(gone), -1)
    hours = codes.time_hours.expand(len(gone), -1)
    return CodeSet(code=code, time_hours=hours, mask=codes.mask & ~gone.gather(1, code))


APART: Mapping[type, Apart] = {
    TimeSeries: Apart(_measured, _unmeasured),
    Vector: Apart(lambda static: static.observed[0].nonzero()[:, 0], _unknown),
    CodeSet: Apart(lambda codes: codes.code[codes.mask], _uncoded),
}
"""Containers that have variables; words and regions of the others are told otherwise."""


def variables_of(container: Container) -> Rows:
    """[G] rows of the vocabulary that one sample has of a modality, ascending."""
    return np.unique(APART[type(container)].rows(container).numpy())


def keeping(
    container: Container, variables: Rows, kept: NDArray[np.bool_], *, n_variables: int
) -> Container:
    """S samples, which are one sample with some of its variables.

    Args:
        container: of the one sample.
        variables: [G] of it.
        kept: [S, G] which of them each of the S has.
        n_variables: V of the vocabulary.
    """
    gone = np.zeros((len(kept), n_variables), dtype=bool)
    gone[:, variables] = ~kept
    return APART[type(container)].less(container, torch.from_numpy(gone))
