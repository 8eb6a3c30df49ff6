"""Split conformal prediction: sets of classes and intervals that hold the truth as often as asked.

Of samples that nothing was fitted on, each truth has a nonconformity: how badly the scores of its
sample fit it. A candidate belongs to a new sample's set if it fits no worse than the k-th smallest
of n such, k = ceil((n + 1) * coverage); the truth then is in the set with at least that
probability, whatever the model (Vovk, Gammerman & Shafer 2005; for regression Lei et al. 2018,
https://doi.org/10.1080/01621459.2017.1307116). With thresholds of its own for each class, it is so
for the samples of each class, however rare (class-conditional, or Mondrian).

People are exchangeable, and rows of one person are not. Where somebody has several, these share one
person's weight, and n counts people: with at least the probability asked for, the set of a row that
is drawn at random from those of a new person holds its truth (Lee, Barber & Willett 2023,
https://doi.org/10.48550/arXiv.2306.06342). This says nothing of long stays by themselves.

A threshold is rounded outward, to a grid that has a quarter as many steps between the quartiles as
there are people (at most 64) and on which no value of a person lies: the truth is held as often at
least, by half a percent more at most from some hundreds of people on, and what a bundle keeps is
nobody's own value. From fewer than ten people there are no thresholds.
"""

from __future__ import annotations

from clinical.errors import BundleError, ConfigError

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PERCENTS = tuple(range(50, 100))
"""Coverages that can be asked for: a bundle keeps a threshold for each."""

USUAL_COVERAGE = 0.9
FEWEST = 10
"""People below whom nothing is said of how badly scores fit them."""

MOST_STEPS, OFF_ZERO = 64, 1 / 3
"""Of the grid: between the quartiles, and its place in a step, so that no round value is on it."""

ROUNDING = 1e-6


@dataclass(frozen=True)
class Conformal:
    """The thresholds of one class, or of the residuals of a regression.

    Attributes:
        n: people that they come from.
        thresholds: one for each of `PERCENTS`, on a grid; infinite where n is too small to exclude
            anything.
    """

    n: int
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(low <= high for low, high in pairwise(self.thresholds))
        if len(self.thresholds) != len(PERCENTS) or not rising or self.n < 0:
            raise BundleError(
                f"conformal: expected {len(PERCENTS)} thresholds that rise; write the bundle again"
            )

    def threshold(self, coverage: float) -> float:
        """The largest nonconformity in a set of this coverage; see `check_coverage`."""
        return self.thresholds[check_coverage(coverage) - PERCENTS[0]]

    def to_json(self) -> dict[str, Any]:
        """What `json.dump` can write; None stands for infinity."""
        finite = [t if math.isfinite(t) else None for t in self.thresholds]
        return {"n": self.n, "thresholds": finite}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Conformal:
        """What `to_json` described.

        Raises:
            BundleError: keys are missing, or a value has the wrong type.
        """
        try:
            thresholds = [math.inf if t is None else float(t) for t in content["thresholds"]]
            return cls(int(content["n"]), tuple(thresholds))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                "conformal: a value is missing or not of the expected type; write the bundle again"
            ) from error


def fit_conformal(nonconformity: Array, subjects: NDArray[np.int64] | None = None) -> Conformal:
    """Thresholds from nonconformities.

    Their people must be exchangeable with those to come, and nothing may have been fitted on them:
    in a bundle, those of `calibrate`, before calibration.

    Args:
        nonconformity: [N] of truths, NaN where there is none.
        subjects: [N] whose row each is; by default everybody has one.
    """
    is_known = ~np.isnan(nonconformity)
    whose = np.flatnonzero(is_known) if subjects is None else subjects[is_known]
    _, place, n_rows = np.unique(whose, return_inverse=True, return_counts=True)
    order = np.argsort(nonconformity[is_known])
    known = np.append(nonconformity[is_known][order], math.inf)
    # In hundredths of a person; what is lost to rounding is not taken for a part of one.
    share = np.cumsum(100 / n_rows[place[order]])
    asked = np.array([(len(n_rows) + 1) * percent for percent in PERCENTS])
    found = known[np.searchsorted(share, asked - ROUNDING)]
    quartiles = known[np.searchsorted(share, len(n_rows) * np.array([25, 75]) - ROUNDING)]
    if len(n_rows) < FEWEST:
        found = np.full(len(PERCENTS), math.inf)
    return Conformal(len(n_rows), tuple(_outward(found, quartiles, len(n_rows)).tolist()))


def _outward(thresholds: Array, quartiles: Array, n: int) -> Array:
    """The next point of the grid above each threshold."""
    finite = thresholds[np.isfinite(thresholds)]
    return next_above(thresholds, grid_step(finite, quartiles, n)) if len(finite) else thresholds


def grid_step(values: Array, quartiles: Array, n: int) -> float:
    """Of a grid for `values`, ascending, that tells of none of n people by themselves."""
    largest = float(np.abs(values).max())
    spreads = (quartiles[1] - quartiles[0], values[-1] - values[0], largest, 1.0)
    spread = next(float(each) for each in spreads if 0 < each < math.inf)
    # Not so fine that sums with it are rounded to the values themselves.
    spread = max(spread, ROUNDING * largest)
    # A power of 2: it tells little of the quartiles, and products with it are exact.
    return 2.0 ** math.floor(math.log2(spread / min(max(n // 4, 1), MOST_STEPS)))


def next_above(values: Array, step: float) -> Array:
    """The next point of the grid above each of `values`."""
    above: Array = (np.floor(values / step - OFF_ZERO) + 1 + OFF_ZERO) * step
    return above


def check_coverage(coverage: float) -> int:
    """The coverage in percent.

    Raises:
        ConfigError: It is not a whole percentage from 50 to 99.
    """
    percent = round(100 * coverage) if math.isfinite(coverage) else 0
    if percent not in PERCENTS or not math.isclose(100 * coverage, percent, abs_tol=1e-6):
        raise ConfigError(
            f"coverage: {coverage:g} cannot be asked for; give whole hundredths from "
            f"{PERCENTS[0] / 100:g} to {PERCENTS[-1] / 100:g}, such as {USUAL_COVERAGE:g}"
        )
    return percent
