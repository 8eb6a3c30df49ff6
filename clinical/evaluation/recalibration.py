"""Logistic recalibration (intercept, slope) fitted under many weightings of the rows at once."""

from __future__ import annotations

from clinical.calibration import fit_logistic

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FAST_STEPS = 8
# Newton's error squares at each step: after a step this small the next digits are exact.
LAST_STEP = 1e-7


@dataclass(frozen=True)
class Recalibration:
    """One logistic regression of labels on their scores' logit, to be fitted under weightings.

    Attributes:
        design: [N, P] columns; the last one is the coefficient of interest.
        offset: [N] added with coefficient 1.
        labels: [N] 0.0 or 1.0.
        start: [P] the coefficients under equal weights, NaN where none exist.
    """

    design: Array
    offset: Array
    labels: Array
    start: Array

    @classmethod
    def of_intercept(cls, logit: Array, labels: Array) -> Recalibration:
        """logit P = a + logit, fitted for a."""
        ones = np.ones((len(labels), 1))
        start = fit_logistic(ones, labels, offset=logit) if _has_both(labels) else [np.nan]
        return cls(ones, logit, labels, np.asarray(start))

    @classmethod
    def of_slope(cls, logit: Array, labels: Array) -> Recalibration:
        """logit P = a + b * logit, fitted for b."""
        # Centred, so that intercept and slope are nearly orthogonal; the slope is the same.
        centred = logit - logit.mean() if len(logit) else logit
        design = np.stack([np.ones_like(centred), centred], axis=1)
        start = np.full(2, np.nan)
        if not is_separated(logit, labels):
            start = fit_logistic(design, labels, start=np.array([0.0, 1.0]))
        return cls(design, np.zeros_like(logit), labels, start)

    def fit(self, weights: Array) -> Array:
        """The last coefficient [R] for `weights [R, N]`; NaN where no finite one is best."""
        if np.isnan(self.start).any():
            return np.full(len(weights), np.nan)
        coefficients, is_settled = self._newton(weights)
        for row in np.flatnonzero(~is_settled):
            coefficients[row] = self._fit_one(weights[row])
        return coefficients[:, -1]

    def _fit_one(self, weights: Array) -> Array:
        """The same by damped steps, after looking whether an optimum exists at all."""
        drawn = weights > 0
        design, labels, offset = self.design[drawn], self.labels[drawn], self.offset[drawn]
        is_line = design.shape[1] > 1
        if not _has_both(labels) or (is_line and is_separated(design[:, 1], labels)):
            return np.full(design.shape[1], np.nan)
        return fit_logistic(design, labels, offset=offset, weights=weights[drawn], start=self.start)

    def _newton(self, weights: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Coefficients [R, P] by plain Newton steps and whether each has settled [R]."""
        design, n_columns = self.design, self.design.shape[1]
        products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
        observed = weights @ (design * self.labels[:, None])
        coefficients = np.tile(self.start, (len(weights), 1))
        is_settled = np.zeros(len(weights), dtype=bool)
        active = np.arange(len(weights))
        # All start at one place, so that the first step needs the risks only once.
        risk = _risk(self.offset + design @ self.start)[None, :]
        for _ in range(FAST_STEPS):
            expected = (weights if len(active) == len(weights) else weights[active]) * risk
            gradient = observed[active] - expected @ design
            expected *= 1 - risk
            hessian = (expected @ products).reshape(-1, n_columns, n_columns)
            is_sound = _is_well_posed(hessian)
            active = active[is_sound]
            step = np.linalg.solve(hessian[is_sound], gradient[is_sound, :, None])[:, :, 0]
            coefficients[active] += step
            size = np.abs(coefficients[active]).max(axis=1)
            is_done = np.abs(step).max(axis=1) <= LAST_STEP * (1 + size)
            is_settled[active[is_done]] = True
            active = active[~is_done]
            if not len(active):
                break
            risk = coefficients[active] @ design.T
            risk += self.offset
            risk = _risk(risk)
        return coefficients, is_settled


def is_separated(logit: Array, labels: Array) -> bool:
    """Whether a threshold divides the classes (equality at it included), or a class is absent."""
    if not _has_both(labels):
        return True
    positive, negative = logit[labels == 1], logit[labels == 0]
    return bool(positive.min() >= negative.max() or positive.max() <= negative.min())


def _has_both(labels: Array) -> bool:
    return bool(len(labels) and labels.min() < labels.max())


def _is_well_posed(hessian: Array) -> NDArray[np.bool_]:
    """Which of [R, P, P] can be solved; one value of the score in a resample makes it singular."""
    scale = np.diagonal(hessian, axis1=1, axis2=2).prod(axis=1)
    return np.asarray((np.linalg.det(hessian) > 1e-10 * scale) & (scale > 1e-100))


def _risk(logit: Array) -> Array:
    """1 / (1 + exp(-logit)), written over its argument."""
    np.negative(logit, out=logit)
    np.minimum(logit, 700.0, out=logit)
    np.exp(logit, out=logit)
    logit += 1
    return np.reciprocal(logit, out=logit)
