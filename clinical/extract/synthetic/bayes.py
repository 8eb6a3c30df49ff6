"""The Bayes risk of every stay: what can be known from its readings and permitted references.

Given the readings the causes are independent: a normal posterior for each of the five that have
one, the prior for a cause whose modality is absent, and a probability for the outbreak, which
depends on the stay's own marker and on those of its references. So the log odds are normal given
the outbreak, and the risk is a one-dimensional integral.
"""

from clinical.extract.synthetic.causes import (
    CAUSES,
    EFFECTS,
    FRAILTY,
    INFILTRATE,
    INTERCEPT,
    OUTBREAK,
    OUTBREAK_SHARE,
    OUTBREAK_SHIFT,
    RELIABILITY,
    Floats,
    mean_risk,
    next_week_chance,
)
from clinical.extract.synthetic.stays import WEEK, Integers, Stays

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit


@dataclass(frozen=True)
class References:
    """For each stay its permitted references: how many, and the sum of their markers.

    A reference is another subject's stay in the same unit, predicted for at the stay's prediction
    time or up to a week before. Those admitted in the same calendar week share its outbreak; the
    others are of the week before.

    Attributes:
        n_same: [N] references of the same week.
        sum_same: [N] sum of their markers.
        n_before: [N] references of the week before.
        sum_before: [N] sum of their markers.
    """

    n_same: Integers
    sum_same: Floats
    n_before: Integers
    sum_before: Floats


def risks(stays: Stays, *, outbreak: bool) -> pl.DataFrame:
    """`risk` and `risk_without_<cause>`, one row a stay.

    Args:
        stays: All of a hospital's stays.
        outbreak: Whether the hospital can have outbreaks at all.
    """
    known = np.ones((len(stays), len(EFFECTS)), dtype=bool)
    known[:, INFILTRATE] = stays.has_image
    known[:, FRAILTY] = stays.has_note
    share = np.full(len(stays), OUTBREAK_SHARE if outbreak else 0.0)
    posterior = outbreak_posterior(stays, find_references(stays)) if outbreak else share
    columns = {"risk": risk_given(stays.readings, known, posterior)}
    for cause, name in enumerate(CAUSES):
        if cause == OUTBREAK:
            risk = risk_given(stays.readings, known, share)
        else:
            without = known.copy()
            without[:, cause] = False
            risk = risk_given(stays.readings, without, posterior)
        columns[f"risk_without_{name}"] = risk
    return pl.DataFrame(columns)


def risk_given(readings: Floats, known: NDArray[np.bool_], outbreak: Floats) -> Floats:
    """[N] risks, when the outbreak has these probabilities and only known readings are read.

    Args:
        readings: [N, 5].
        known: [N, 5].
        outbreak: [N].
    """
    means = np.where(known, RELIABILITY * readings, 0.0)
    variances = np.where(known, 1 - RELIABILITY, 1.0)
    return mean_risk(INTERCEPT + means @ EFFECTS, variances @ EFFECTS**2, outbreak)


def find_references(stays: Stays) -> References:
    """The permitted references of every stay, by sorting each unit's stays in time."""
    n = len(stays)
    n_same, n_before = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    sum_same, sum_before = np.zeros(n), np.zeros(n)
    for unit in np.unique(stays.unit):
        rows = np.flatnonzero(stays.unit == unit)
        rows = rows[np.argsort(stays.admission[rows], kind="stable")]
        # Every prediction is 48 h after admission, so admissions compare like prediction times.
        times, markers = stays.admission[rows], stays.marker[rows]
        total = np.concatenate([[0.0], np.cumsum(markers)])
        oldest = np.searchsorted(times, times - WEEK, side="left")
        monday = np.searchsorted(times, times - times % WEEK, side="left")
        end = np.searchsorted(times, times, side="right")
        # A subject's stays are more than a week apart: of its own, only the stay itself is here.
        n_same[rows] = end - monday - 1
        sum_same[rows] = total[end] - total[monday] - markers
        n_before[rows] = monday - oldest
        sum_before[rows] = total[monday] - total[oldest]
    return References(n_same, sum_same, n_before, sum_before)


def outbreak_posterior(stays: Stays, references: References) -> Floats:
    """[N] probability of an outbreak in the stay's unit and week, given the markers."""
    before = _evidence(references.n_before, references.sum_before)
    same = _evidence(references.n_same + 1, references.sum_same + stays.marker)
    week_before = expit(logit(OUTBREAK_SHARE) + before)
    posterior: Floats = expit(logit(next_week_chance(week_before)) + same)
    return posterior


def _evidence(count: Integers, total: Floats) -> Floats:
    """Log likelihood ratio of an outbreak against none for markers of this count and sum."""
    return OUTBREAK_SHIFT * total - count * OUTBREAK_SHIFT**2 / 2
