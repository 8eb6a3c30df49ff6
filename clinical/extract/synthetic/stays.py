"""The stays of a synthetic hospital: who comes when, with which causes, and who dies."""

from clinical.extract.synthetic.causes import (
    AGE,
    CHRONIC,
    EFFECTS,
    FRAILTY,
    INTERCEPT,
    OUTBREAK_EFFECT,
    OUTBREAK_SHARE,
    OUTBREAK_SHIFT,
    READING_NOISE,
    RELIABILITY,
    Floats,
    mean_risk,
    outbreak_weeks,
)

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

MINUTES_PER_DAY = 1440
DAYS_PER_YEAR = 365.25
WEEK = 7 * MINUTES_PER_DAY
PREDICTION_AFTER = 48 * 60
UNITS = ("MICU", "SICU", "CCU", "CVICU", "TSICU", "NSICU")
# The calendar grows with the number of subjects, so that contemporaries are as many in any size.
STAYS_PER_UNIT_WEEK = 24
MIN_WEEKS = 4
# Share of subjects readmitted if the calendar were endless, see `_readmissions`.
READMITTED = 0.10
# X-rays and notes are missing more often in some units; the units don't differ in risk, so that
# a missing modality says nothing about the outcome and the Bayes risk stays exact.
WITHOUT_IMAGE = np.array([0.30, 0.45, 0.35, 0.35, 0.45, 0.50])
WITHOUT_NOTE = np.array([0.10, 0.20, 0.12, 0.16, 0.16, 0.16])
# Old enough for an ICU, and young enough that no readmission passes 89.
YOUNGEST, OLDEST, AGE_SKEW = 18.0, 87.0, 0.6
# These two stay with a subject, reading included; the others are drawn anew for each stay.
LASTING = [FRAILTY, CHRONIC]


@dataclass(frozen=True)
class Stays:
    """One row a stay, ordered by subject and time; times in whole minutes since the calendar began.

    Attributes:
        subject: [N] number of the subject, from 0.
        admission: [N] start of the stay in the unit; the prediction is 48 h later.
        end: [N] death or discharge, later than the prediction.
        unit: [N] index into UNITS.
        birth: [N] midnight of the subject's day of birth.
        is_female: [N].
        latents: [N, 5] the causes but the outbreak, standard normal.
        readings: [N, 5] what the modalities show of them.
        outbreak: [N] whether the unit has one in the week of admission.
        marker: [N] what shows of the outbreak in this patient.
        died: [N] the label.
        has_image: [N].
        has_note: [N].
    """

    subject: Integers
    admission: Integers
    end: Integers
    unit: Integers
    birth: Integers
    is_female: Flags
    latents: Floats
    readings: Floats
    outbreak: Flags
    marker: Floats
    died: Flags
    has_image: Flags
    has_note: Flags

    @property
    def prediction(self) -> Integers:
        """[N] prediction times."""
        return self.admission + PREDICTION_AFTER

    def __len__(self) -> int:
        return len(self.subject)

    def take(self, rows: Integers | slice) -> Self:
        """These rows, in this order."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True)
class _People:
    """What stays with a subject: [M] each, `latents` and `readings` [M, 2] of LASTING."""

    birth: Integers
    is_female: Flags
    latents: Floats
    readings: Floats


def draw_stays(rng: np.random.Generator, n_subjects: int, *, outbreak: bool) -> Stays:
    """Draw every stay of a hospital; without `outbreak` no unit ever has one."""
    n_units = int(np.clip(n_subjects // (STAYS_PER_UNIT_WEEK * MIN_WEEKS), 1, len(UNITS)))
    length = int(np.ceil(n_subjects * WEEK / (STAYS_PER_UNIT_WEEK * n_units)))
    # Drawn in any case, so that switching outbreaks off changes nothing else.
    weeks = outbreak_weeks(rng, n_units, length // WEEK + 1) & outbreak
    admission = rng.integers(0, length, n_subjects)
    people = _draw_people(rng, admission)
    first = _draw(rng, people, weeks, who=np.arange(n_subjects), admission=admission)
    who, again = _readmissions(rng, first, outbreak=outbreak)
    within = again < length
    second = _draw(rng, people, weeks, who=who[within], admission=again[within])
    both = Stays(
        **{
            f.name: np.concatenate([getattr(first, f.name), getattr(second, f.name)])
            for f in fields(Stays)
        }
    )
    return both.take(np.lexsort((both.admission, both.subject)))


def _draw_people(rng: np.random.Generator, admission: Integers) -> _People:
    n = len(admission)
    # The age itself is the reading of age, so it is drawn with a reading's distribution.
    uniform = ndtr(rng.standard_normal(n))
    years = YOUNGEST + (OLDEST - YOUNGEST) * uniform**AGE_SKEW
    birth = admission - (years * DAYS_PER_YEAR * MINUTES_PER_DAY).astype(np.int64)
    latents = rng.standard_normal((n, len(LASTING)))
    return _People(
        birth=birth - birth % MINUTES_PER_DAY,
        is_female=rng.random(n) < 0.45,
        latents=latents,
        readings=latents + READING_NOISE * rng.standard_normal(latents.shape),
    )


def age_reading(age_minutes: Integers) -> Floats:
    """The reading of age that an age at admission stands for."""
    years = age_minutes / (DAYS_PER_YEAR * MINUTES_PER_DAY)
    share = ((years - YOUNGEST) / (OLDEST - YOUNGEST)).clip(1e-5, 1 - 1e-5)
    reading: Floats = ndtri(share ** (1 / AGE_SKEW)) / np.sqrt(RELIABILITY)
    return reading


def _draw(
    rng: np.random.Generator, people: _People, weeks: Flags, *, who: Integers, admission: Integers
) -> Stays:
    """One stay each for the subjects `who`, admitted then."""
    n = len(who)
    unit = rng.integers(0, len(weeks), n)
    latents = rng.standard_normal((n, 5))
    readings = latents + READING_NOISE * rng.standard_normal((n, 5))
    latents[:, LASTING], readings[:, LASTING] = people.latents[who], people.readings[who]
    # The same joint distribution as for the other causes, but drawn from the reading's side.
    readings[:, AGE] = age_reading(admission - people.birth[who])
    latents[:, AGE] = RELIABILITY * readings[:, AGE] + np.sqrt(1 - RELIABILITY) * latents[:, AGE]
    outbreak = weeks[unit, admission // WEEK]
    died = rng.random(n) < expit(INTERCEPT + latents @ EFFECTS + OUTBREAK_EFFECT * outbreak)
    remaining_days = 0.05 + rng.exponential(np.where(died, 3.0, 2.5))
    return Stays(
        subject=who,
        admission=admission,
        end=admission + PREDICTION_AFTER + (remaining_days * MINUTES_PER_DAY).astype(np.int64),
        unit=unit,
        birth=people.birth[who],
        is_female=people.is_female[who],
        latents=latents,
        readings=readings,
        outbreak=outbreak,
        marker=OUTBREAK_SHIFT * outbreak + rng.standard_normal(n),
        died=died,
        has_image=rng.random(n) >= WITHOUT_IMAGE[unit],
        has_note=rng.random(n) >= WITHOUT_NOTE[unit],
    )


def _readmissions(
    rng: np.random.Generator, first: Stays, *, outbreak: bool
) -> tuple[Integers, Integers]:
    """Who comes a second time, and when.

    Only survivors can. If each survivor came back with the same chance, a second stay would say
    that frailty and chronic disease are low, which no reading shows. So the chance is inverse to
    the chance of having survived with one's lasting causes: surviving *and* coming back then does
    not depend on them, and the Bayes risk of a second stay is exact with the ordinary priors.
    """
    n = len(first)
    fresh = np.delete(EFFECTS, LASTING)
    mean = INTERCEPT + first.latents[:, LASTING] @ EFFECTS[LASTING]
    share = np.full(n, OUTBREAK_SHARE if outbreak else 0.0)
    survival = 1 - mean_risk(mean, np.full(n, fresh @ fresh), share)
    comes = ~first.died & (rng.random(n) < READMITTED / survival)
    days = 10 + rng.exponential(40.0, n)
    admission = first.end + (days * MINUTES_PER_DAY).astype(np.int64)
    return first.subject[comes], admission[comes]
