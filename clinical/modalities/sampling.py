"""A bounded uniform sample of many variables' values from a stream."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

VALUES_IN_MEMORY = 8_000_000
"""Values kept over all variables; 16 bytes each."""

VALUES_PER_VARIABLE = 50_000
"""More do not move a quantile by anything that matters."""


class Sample:
    """Keeps the values of each variable that drew the smallest of independent uniform numbers.

    That is a uniform sample without replacement however the stream is cut into pieces.
    """

    def __init__(self, n_variables: int, generator: np.random.Generator) -> None:
        share = VALUES_IN_MEMORY // max(n_variables, 1)
        self.limit = min(VALUES_PER_VARIABLE, max(share, 1_000))
        self._generator = generator
        self._bar = np.ones(n_variables)
        self._variable: NDArray[np.int32] = np.empty(0, np.int32)
        self._value: NDArray[np.float32] = np.empty(0, np.float32)
        self._draw: NDArray[np.float64] = np.empty(0)

    def add(self, variable: NDArray[Any], value: NDArray[Any]) -> None:
        """Take in values [N] of the variables [N]."""
        draw = self._generator.random(len(value))
        keep = draw < self._bar[variable]
        self._variable = np.concatenate([self._variable, variable[keep].astype(np.int32)])
        self._value = np.concatenate([self._value, value[keep].astype(np.float32)])
        self._draw = np.concatenate([self._draw, draw[keep]])
        if np.bincount(self._variable, minlength=1).max() > self.limit:
            self._prune()

    def _prune(self) -> None:
        order = np.lexsort((self._draw, self._variable))
        variable = self._variable[order]
        start = np.searchsorted(variable, np.arange(len(self._bar)))
        rank = np.arange(len(variable)) - start[variable]
        last = order[rank == self.limit - 1]
        self._bar[self._variable[last]] = self._draw[last]
        kept = np.sort(order[rank < self.limit])
        self._variable = self._variable[kept]
        self._value = self._value[kept]
        self._draw = self._draw[kept]

    def get(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The kept values and their variables."""
        return self._value, self._variable
