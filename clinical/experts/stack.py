"""How much the experts count beside the networks."""

from clinical.calibration import Array, fit_logistic
from clinical.config import RunConfig

import numpy as np

EVEN = 0.5
"""What the experts count for as long as nothing is known; a plain average is hard to beat."""
# The prior's standard deviation: some dozens of events move the weight, a handful do not.
SPREAD = 0.2
WEIGHTS = np.linspace(0, 1, 101)


def stacked(networks: Array, experts: Array, weight: float) -> Array:
    """[N] logit of networks [M, N] and experts [E, N]: each kind's mean, the experts' weighed.

    Without experts it is the networks' mean, whatever the weight.
    """
    together: Array = networks.mean(axis=0)
    if len(experts):
        together = (1 - weight) * together + weight * experts.mean(axis=0)
    return together


def prior_weight(config: RunConfig) -> float:
    """The experts' weight before anything is known: a half, of what the networks were not told.

    Networks that the experts taught already say as much of it as the teachers' share.
    """
    experts, settings = config.experts, config.finetune
    taught = [name for name in experts if name in settings.teachers]
    return EVEN * (1 - settings.teacher_share * len(taught) / max(1, len(experts)))


def fit_weight(network: Array, expert: Array, labels: Array, *, prior: float = EVEN) -> float:
    """The experts' weight in [0, 1] that gives the lowest log loss, shrunk towards the prior's.

    The samples are those of `select`: nothing was fitted on them, but each network's epoch may have
    been chosen there, which favours the networks by a little. Since a calibration follows, a weight
    is judged after the best line through its logits: otherwise it would make up for logits that are
    too steep by leaning on the flatter of the two.

    Args:
        network: [N] mean logit of the networks.
        expert: [N] mean logit of the experts.
        labels: [N] 0 or 1; without both, the weight is the prior's.
        prior: the weight that is expected.
    """
    if len(np.unique(labels)) < 2:
        return prior
    losses = [
        _loss(stacked(network[None], expert[None], weight), labels)
        + (weight - prior) ** 2 / (2 * SPREAD**2)
        for weight in WEIGHTS
    ]
    return float(WEIGHTS[int(np.argmin(losses))])


def _loss(logit: Array, labels: Array) -> float:
    """Log loss in nats, summed, of the best rising line through the logits."""
    spread = logit.std()
    standard = (logit - logit.mean()) / (spread if spread > 0 else 1.0)
    design = np.stack([np.ones_like(logit), standard], axis=1)
    # The ridge, worth one sample, keeps the line finite where the logits separate the classes.
    intercept, slope = fit_logistic(design, labels, ridge=1.0)
    if slope < 0:  # a calibration never turns scores round; the best it can do is the base rate
        intercept, slope = np.log(labels.mean() / (1 - labels.mean())), 0.0
    line = intercept + slope * standard
    return float((np.logaddexp(0.0, line) - labels * line).sum())
