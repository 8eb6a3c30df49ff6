"""A modality of a batch as a table of variables, where it is one."""

from clinical.containers import CodeSet, Container, TimeSeries, Vector

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SHARE_BEYOND = 0.005
"""Of a variable's train values on either side of positions 0 and 1; see `TimeSeries`."""

END = float(torch.special.ndtri(torch.tensor(1 - SHARE_BEYOND, dtype=torch.float64)))


@dataclass(frozen=True)
class Table:
    """Variables of the samples of a batch.

    Attributes:
        value: [B, V, S] float32, normal scores of each variable's statistics, of which the first is
            its level; 0 where it is not observed. S is 0 where a variable has no value.
        observed: [B, V] bool.
    """

    value: Tensor
    observed: Tensor


def normal_scores(position: Tensor) -> Tensor:
    """Positions in the train distribution as normal scores, linear beyond the extremes.

    Positions 0 and 1, which leave out `SHARE_BEYOND`, become the normal distribution's quantiles of
    that share; from there on a score goes as far as a normal variable's would.
    """
    inside = position.clamp(0, 1)
    score: Tensor = torch.special.ndtri(SHARE_BEYOND + (1 - 2 * SHARE_BEYOND) * inside)
    return score + (position - inside) * (2 * END)


def _events(container: TimeSeries, _: int) -> Table:
    observed = container.summary_observed
    value = torch.zeros_like(container.summary)
    value[observed] = normal_scores(container.summary[observed])
    return Table(value, observed)


def _static(container: Vector, _: int) -> Table:
    scores = normal_scores(container.value).masked_fill(~container.observed, 0.0)
    return Table(scores[:, :, None], container.observed)


def _codes(container: CodeSet, n_codes: int) -> Table:
    counts = torch.zeros(len(container.code), n_codes + 1)
    # The last column is for codes that nobody asks about.
    asked = container.code.masked_fill(~container.mask, n_codes).clamp(max=n_codes)
    observed = counts.scatter_(1, asked, 1.0)[:, :n_codes].bool()
    return Table(torch.zeros(*observed.shape, 0), observed)


VIEWS: Mapping[type, Callable[[Any, int], Table]] = {
    TimeSeries: _events,
    Vector: _static,
    CodeSet: _codes,
}
"""Container -> its variables, of which there are so many; what is no line here has none."""


def table_of(container: Container, n_variables: int) -> Table | None:
    """The variables of one modality of a batch; None where it has none."""
    view = VIEWS.get(type(container))
    return None if view is None else view(container, n_variables)
