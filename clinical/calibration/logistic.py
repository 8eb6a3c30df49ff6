"""Logistic regression of a handful of columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fit_logistic(
    design: Array,
    targets: Array,
    *,
    offset: Array | float = 0.0,
    weights: Array | None = None,
    start: Array | None = None,
    ridge: Array | float = 0.0,
) -> Array:
    """Logistic regression by damped Newton steps, for a handful of columns.

    Args:
        design: [N, P] columns; add a column of ones for an intercept.
        targets: [N] in 0..1.
        offset: [N] added to the logit with coefficient 1.
        weights: [N] case weights, ones if absent.
        start: [P] first guess and centre of the ridge, zeros if absent.
        ridge: strength of `ridge / 2 * |coefficients - start|^2`, of each column or of all.

    Returns:
        [P] coefficients; NaN where no finite optimum exists (separated classes).
    """
    centre = np.zeros(design.shape[1]) if start is None else np.asarray(start, dtype=np.float64)
    weight = np.ones(len(targets)) if weights is None else weights

    def loss(candidate: Array) -> float:
        line = offset + design @ candidate
        fit = weight @ (np.logaddexp(0.0, line) - targets * line)
        return float(fit + (ridge * (candidate - centre) ** 2).sum() / 2)

    coefficients, current = centre, loss(centre)
    for _ in range(60):
        risk = sigmoid(offset + design @ coefficients)
        gradient = design.T @ (weight * (risk - targets)) + ridge * (coefficients - centre)
        curvature = design * (weight * risk * (1 - risk))[:, None]
        hessian = curvature.T @ design + np.diag(np.broadcast_to(ridge, len(centre)))
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            break
        if not np.isfinite(step).all():
            break
        if np.abs(step).max() <= 1e-9 * (1 + np.abs(coefficients).max()):
            return np.asarray(coefficients - step, dtype=np.float64)
        slack = 1e-12 * abs(current)  # rounding must not look like a step too long
        while (trial := loss(coefficients - step)) > current + slack and np.abs(step).max() > 1e-12:
            step = step / 2
        coefficients, current = coefficients - step, trial
    return np.full(len(centre), np.nan)


def sigmoid(logit: Array) -> Array:
    """1 / (1 + exp(-logit)) without overflow."""
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1.0, small) / (1.0 + small)
