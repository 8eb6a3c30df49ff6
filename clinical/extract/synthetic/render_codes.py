"""Chronic disease as diagnosis and drug codes, before the stay and in its first hours.

Codes form a ladder: each appears once the reading passes its own threshold, give or take what the
patient is prone to. So the whole set tells the reading, and codes tell of each other.
"""

from clinical.extract.synthetic.causes import CHRONIC, Floats
from clinical.extract.synthetic.ontology import (
    CHRONIC_GROUPS,
    background_codes,
    chronic_codes,
)
from clinical.extract.synthetic.stays import MINUTES_PER_DAY, Stays

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

LOWEST, HIGHEST = -1.9, 2.7
STEEPNESS = 4.0
# Spread of what a patient is prone to, between organ groups; it averages to nothing.
PRONENESS = 0.6
BACKGROUND_SHARE = 0.12
# Chance that a code is written again in the stay's first hours.
REPEATED = 0.3
N_VISITS = 4
OLDEST_VISIT_DAYS = 2000
NEWEST_VISIT_DAYS = 10
FIRST_HOURS = 12

CODES = [code for code, _ in chronic_codes()]
GROUPS = np.array([group for _, group in chronic_codes()])
# A fixed order that spreads every group over the whole ladder: steps of a golden-ratio sequence.
STEPS = np.arange(len(CODES)) * 0.618034 % 1.0
THRESHOLDS = LOWEST + (HIGHEST - LOWEST) * STEPS


def render_codes(rng: np.random.Generator, stays: Stays) -> pl.DataFrame:
    """Codes of visits before a subject's first stay and of the first hours of every stay.

    Args:
        rng: The renderer's own generator.
        stays: All stays of some subjects.

    Returns:
        Columns `stay` (row number), `minute`, `code`.
    """
    is_first = np.concatenate([[True], stays.subject[1:] != stays.subject[:-1]])
    owner = np.cumsum(is_first) - 1
    has_code = _draw_codes(rng, stays.readings[is_first, CHRONIC])
    names = np.array(CODES + background_codes())
    # Each code is in the history once, whether or not a stay repeats it.
    subject, code = np.nonzero(has_code)
    visits = rng.integers(NEWEST_VISIT_DAYS, OLDEST_VISIT_DAYS, (int(is_first.sum()), N_VISITS))
    days = visits[subject, rng.integers(0, N_VISITS, len(subject))]
    first = np.flatnonzero(is_first)[subject]
    history = (first, stays.admission[first] - days * MINUTES_PER_DAY, code)
    again = has_code[owner] & (rng.random((len(stays), len(names))) < REPEATED)
    stay, repeated = np.nonzero(again)
    soon = stays.admission[stay] + rng.integers(0, FIRST_HOURS * 60, len(stay))
    return pl.DataFrame(
        {
            "stay": np.concatenate([history[0], stay]),
            "minute": np.concatenate([history[1], soon]),
            "code": names[np.concatenate([history[2], repeated])],
        }
    )


def _draw_codes(rng: np.random.Generator, readings: Floats) -> NDArray[np.bool_]:
    """Which codes each subject has, [subjects, codes]: chronic ones, then background."""
    n = len(readings)
    prone = PRONENESS * rng.standard_normal((n, len(CHRONIC_GROUPS)))
    prone -= prone.mean(axis=1, keepdims=True)
    above = readings[:, None] + prone[:, GROUPS] - THRESHOLDS
    chronic = rng.random((n, len(CODES))) < expit(STEEPNESS * above)
    background = rng.random((n, len(background_codes()))) < BACKGROUND_SHARE
    return np.concatenate([chronic, background], axis=1)
