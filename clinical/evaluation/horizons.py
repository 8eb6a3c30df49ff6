"""Metrics of risks by several horizons together, where observation may end before them."""

from __future__ import annotations

from clinical.censoring import counts_by, status_by
from clinical.evaluation.metrics import Scored, brier

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Horizons:
    """Risks by each horizon, and what happened.

    Attributes:
        scores: [N, H] risks in 0..1.
        hours: [N] to the event or to the end of observation.
        observed: [N] bool, it was the event.
        horizons: [H] hours, rising; at least two.
    """

    scores: Array
    hours: Array
    observed: NDArray[np.bool_]
    horizons: tuple[float, ...]

    names: ClassVar[tuple[str, ...]] = ("integrated Brier", "scaled integrated Brier")
    main: ClassVar[tuple[str, ...]] = names

    @cached_property
    def _each(self) -> list[tuple[NDArray[np.bool_], Scored, Array]]:
        """For each horizon rows of known status, their scores, and what each counts."""
        found = []
        for place, horizon in enumerate(self.horizons):
            status = status_by(horizon, self.hours, self.observed)
            known = ~np.isnan(status)
            counts = counts_by(horizon, self.hours, self.observed)[known]
            found.append((known, Scored.of(self.scores[known, place], status[known]), counts))
        return found

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`.

        The Brier score at each horizon (Graf et al., 1999), integrated by trapezoids over the
        span from the first horizon to the last and divided by it; scaled, it is compared with
        that of giving everybody the rate of each horizon.
        """
        weighted = [(scored, weights[:, known] * counts) for known, scored, counts in self._each]
        model = np.stack([brier(scored, each) for scored, each in weighted], axis=1)
        found = {"integrated Brier": self._integrated(model)}
        if "scaled integrated Brier" in metrics:
            rates = [each @ scored.labels / each.sum(axis=1) for scored, each in weighted]
            rate = np.stack(rates, axis=1)
            reference = self._integrated(rate * (1 - rate))
            result = np.full(len(weights), np.nan)
            np.divide(found["integrated Brier"], reference, out=result, where=reference > 0)
            found["scaled integrated Brier"] = 1 - result
        return {name: values for name, values in found.items() if name in metrics}

    def _integrated(self, values: Array) -> Array:
        """[R] mean over time of [R, H]."""
        span = self.horizons[-1] - self.horizons[0]
        return np.asarray(np.trapezoid(values, self.horizons, axis=1) / span)

    def why_undefined(self, metric: str) -> str:
        """Why a metric has no value."""
        if not len(self.hours):
            return "no labelled scores"
        if any(not known.any() for known, _, _ in self._each):
            return "by one of the horizons nobody's status is known"
        return "nobody, or everybody, has the event by each horizon"

    def notes(self, metric: str) -> list[str]:
        """What to beware of."""
        return [f"from {self.horizons[0]:g} to {self.horizons[-1]:g} hours"]
