"""What makes the synthetic patients die: six hidden causes, their effects and how well they read.

Every number here is a property of the hospital's world, the same for every seed. They were set
once so that prevalence, Bayes AUROC and the worth of each cause lie where the tests want them.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CAUSES = ("acute_severity", "infiltrate", "frailty", "chronic_disease", "age", "outbreak")
SEVERITY, INFILTRATE, FRAILTY, CHRONIC, AGE, OUTBREAK = range(6)

# The first five causes are standard normal; log odds of death per standard deviation.
EFFECTS: Floats = np.array([1.05, 1.45, 1.15, 1.05, 1.05])
OUTBREAK_EFFECT = 2.3
INTERCEPT = -3.6
# A modality renders `reading = latent + noise` of this standard deviation, and nothing more of it.
READING_NOISE = 0.5
RELIABILITY = 1.0 / (1.0 + READING_NOISE**2)

# An outbreak holds a unit for a week at a time, and tends to last into the next week.
OUTBREAK_SHARE = 0.2
OUTBREAK_PERSISTENCE = 0.6
# How far it moves a patient's inflammation marker, in standard deviations of the marker.
OUTBREAK_SHIFT = 0.7

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def mean_sigmoid(mean: Floats, variance: Floats) -> Floats:
    """E[sigmoid(x)] for normal x, by Gauss-Hermite quadrature (within 1e-6 here).

    Args:
        mean: [N].
        variance: [N].
    """
    points = mean[:, None] + np.sqrt(variance)[:, None] * _NODES
    # Through tanh, so that a large negative point cannot overflow.
    values: Floats = (0.5 + 0.5 * np.tanh(points / 2)) @ _WEIGHTS
    return values


def mean_risk(mean: Floats, variance: Floats, outbreak: Floats) -> Floats:
    """The risk of death when only the distribution of the log odds is known.

    Args:
        mean: [N], of the log odds without an outbreak.
        variance: [N], of the same.
        outbreak: [N], probability that there is one.
    """
    calm = mean_sigmoid(mean, variance)
    return (1 - outbreak) * calm + outbreak * mean_sigmoid(mean + OUTBREAK_EFFECT, variance)


def outbreak_weeks(rng: np.random.Generator, n_units: int, n_weeks: int) -> NDArray[np.bool_]:
    """Which weeks an outbreak holds which unit, [n_units, n_weeks]: a stationary Markov chain."""
    uniform = rng.random((n_units, n_weeks))
    weeks = np.zeros((n_units, n_weeks), dtype=bool)
    weeks[:, 0] = uniform[:, 0] < OUTBREAK_SHARE
    for week in range(1, n_weeks):
        chance = next_week_chance(weeks[:, week - 1].astype(float))
        weeks[:, week] = uniform[:, week] < chance
    return weeks


def next_week_chance(outbreak: Floats) -> Floats:
    """Probability of an outbreak in a week, from that of the week before."""
    return OUTBREAK_SHARE * (1 - OUTBREAK_PERSISTENCE) + OUTBREAK_PERSISTENCE * outbreak
