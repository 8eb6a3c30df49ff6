"""What is known of an event by a horizon, where observation may end before it.

Who was censored before the horizon has no known status there. The others count by the inverse
probability of having been observed until then (Graf et al., 1999), from the Kaplan-Meier estimate
of censoring over all rows, so that they stand for those who were not.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FLOAT32 = 1e-6
"""Hours that differ by less than this share are the same: labels are float32."""
MOST = 1000
"""Rows that one row may stand for."""


def status_by(horizon: float, hours: Array, observed: NDArray[np.generic]) -> Array:
    """[N] 1 with the event by the horizon, 0 without it, NaN if that is not known.

    Args:
        horizon: in hours.
        hours: [N] to the event or to the end of observation, NaN if unknown.
        observed: [N] 1 if it was the event, 0 if the end of observation.
    """
    hours = _rounded(hours, horizon)
    came = (observed == 1) & (hours <= horizon)
    stayed_away = (hours > horizon) | ((observed == 0) & (hours == horizon))
    return np.where(came, 1.0, np.where(stayed_away, 0.0, np.nan))


def counts_by(horizon: float, hours: Array, observed: NDArray[np.generic]) -> Array:
    """[N] for how many rows each one of known status stands, itself included; 0 for the others.

    Args:
        horizon, hours, observed: as for `status_by`.
    """
    status = status_by(horizon, hours, observed)
    hours = _rounded(hours, horizon)
    labelled = ~np.isnan(hours)
    until = np.minimum(hours[labelled], horizon)
    counts = np.zeros(len(hours))
    counts[labelled] = 1 / observed_until(hours[labelled], observed[labelled] == 1, until)
    return np.where(np.isnan(status), 0.0, counts)


def observed_until(hours: Array, observed: NDArray[np.bool_], until: Array) -> Array:
    """[n] Kaplan-Meier probability of not being censored before each of `until` [n].

    Args:
        hours, observed: [N] of the rows that it is learned from.
        until: [n] hours.
    """
    times, place = np.unique(hours, return_inverse=True)
    events = np.bincount(place, weights=observed, minlength=len(times))
    censored = np.bincount(place, weights=~observed, minlength=len(times))
    gone = np.append(0.0, np.cumsum(events + censored)[:-1])
    # At the same time events come first: whoever had one is not at risk of being censored.
    at_risk = len(hours) - gone - events
    staying = np.cumprod(1 - censored / np.maximum(at_risk, 1))
    found: Array = np.append(1.0, staying)[np.searchsorted(times, until, side="left")]
    return np.maximum(found, 1 / MOST)


def _rounded(hours: Array, horizon: float) -> Array:
    """Hours that are the horizon but for float32 are the horizon: 729.59998 of 729.6."""
    rounded: Array = np.where(np.isclose(hours, horizon, rtol=FLOAT32, atol=0), horizon, hours)
    return rounded
