"""Smooth calibration of risks: identity, temperature, Platt or beta, no more than the data ask for.

All four are one strictly increasing family on the logit z of the uncalibrated risk,

    logit(calibrated) = intercept + slope_high * log(1 + exp(z)) - slope_low * log(1 + exp(-z)),

where `slope_low` is the slope for risks near 0 and `slope_high` that for risks near 1. Equal slopes
are Platt's line, slopes without an intercept are a temperature, 1 and 1 change nothing.
"""

from __future__ import annotations

from clinical.errors import BundleError, SchemaError

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KINDS = ("identity", "temperature", "platt", "beta")  # simplest first: it wins a tie
FEWEST_FOR_A_CHOICE = 50
FOLDS = 5
NOT_CALIBRATED = "not calibrated"
SMALLEST_SLOPE = 0.01
INTERCEPT_SD, SLOPE_SD, SLOPE_SD_OF_FEW = 1.0, 1.0, 0.25
"""Of a normal prior around "change nothing". What is trained on log loss is seldom far off, while a
slope that is fitted on a few dozen events often is: below `FEWEST_FOR_A_CHOICE` it is held back."""


@dataclass(frozen=True)
class Calibration:
    """A strictly increasing map from the logit of an uncalibrated risk to a probability.

    Attributes:
        kind: one of `KINDS`.
        intercept, slope_low, slope_high: the family's parameters; both slopes are above 0.
        n, events: size of the calibrate half, and its positives.
        log_loss: cross-fitted log loss of each kind that was compared, in nats a sample.
        reason: why scores are uncalibrated, or why the choice was restricted; None otherwise.
    """

    kind: str = "identity"
    intercept: float = 0.0
    slope_low: float = 1.0
    slope_high: float = 1.0
    n: int = 0
    events: int = 0
    log_loss: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None

    def __post_init__(self) -> None:
        slopes = (self.slope_low, self.slope_high)
        if self.kind not in KINDS:
            raise BundleError(
                f"calibration: kind {self.kind!r} is not one of {', '.join(KINDS)}; "
                "use a bundle written by this version"
            )
        if not all(math.isfinite(value) for value in (self.intercept, *slopes)) or min(slopes) <= 0:
            raise BundleError(
                "calibration: intercept and slopes must be finite and slopes above 0; "
                "write the bundle again"
            )

    @property
    def is_missing(self) -> bool:
        """Nothing could be fitted, so that scores are as they were: not the same as identity."""
        return self.reason is not None and self.reason.startswith(NOT_CALIBRATED)

    def apply(self, logit: Array) -> Array:
        """Calibrated probabilities, of any shape, for logits of that shape; NaN stays NaN."""
        parameters = (self.intercept, self.slope_low, self.slope_high)
        return sigmoid(_line(parameters, np.asarray(logit, dtype=np.float64)))

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dump` can write and `from_json` reads back unchanged."""
        return {
            "kind": self.kind,
            "intercept": self.intercept,
            "slope_low": self.slope_low,
            "slope_high": self.slope_high,
            "n": self.n,
            "events": self.events,
            "log_loss": dict(self.log_loss),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_json` described.

        Raises:
            BundleError: keys are missing or unknown, or a value has the wrong type.
        """
        expected = set(cls().to_json())
        if not isinstance(content, Mapping) or set(content) != expected:
            raise BundleError(
                f"calibration: expected the keys {', '.join(sorted(expected))}; "
                "use a bundle written by this version"
            )
        try:
            return cls(
                kind=str(content["kind"]),
                intercept=float(content["intercept"]),
                slope_low=float(content["slope_low"]),
                slope_high=float(content["slope_high"]),
                n=int(content["n"]),
                events=int(content["events"]),
                log_loss={str(kind): float(loss) for kind, loss in content["log_loss"].items()},
                reason=None if content["reason"] is None else str(content["reason"]),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                "calibration: a value is not of the expected type; write the bundle again"
            ) from error


def fit_calibration(scores_logit: Array, labels: Array) -> Calibration:
    """Fit and choose a calibration on the `calibrate` half of the tuning split.

    Log losses are compared in 5-fold cross-fitting. The simplest kind that is within one standard
    error of the best wins (Breiman et al. 1984), and is refitted on everything. Below 50 positives
    (or 50 negatives) only Platt's line is fitted. A prior around "change nothing" stands in for the
    smoothed targets of Platt (1999), which flatten the slope of few events; separated classes give
    finite parameters too. The result does not depend on the order of the rows.

    Args:
        scores_logit: [N] logits of the uncalibrated risks.
        labels: [N] 0 or 1.

    Raises:
        SchemaError: shapes differ, a logit is not finite or a label is neither 0 nor 1.
    """
    logit, label = _checked(scores_logit, labels)
    events, n = int(label.sum()), len(label)
    if min(events, n - events) == 0:
        return Calibration(
            n=n, events=events, reason=f"{NOT_CALIBRATED}: {_missing_class(events, n)} to fit on"
        )
    losses: dict[str, float] = {}
    reason = None
    kind, slope_sd = "platt", SLOPE_SD
    if min(events, n - events) < FEWEST_FOR_A_CHOICE:
        reason = f"only {events} positives and {n - events} negatives: Platt's line, no other tried"
        slope_sd = SLOPE_SD_OF_FEW
    else:
        each = {kind: _cross_fitted_losses(kind, logit, label) for kind in KINDS}
        losses = {kind: float(loss.mean()) for kind, loss in each.items()}
        kind = simplest_near_best(each)
    intercept, slope_low, slope_high = _fit(kind, logit, label, slope_sd)
    if kind != "identity" and min(slope_low, slope_high) <= SMALLEST_SLOPE:
        held = "slope held at its smallest value: "
        if max(slope_low, slope_high) <= SMALLEST_SLOPE:
            held += "the scores hardly rank the calibrate half"
        else:
            held += f"the {'lowest' if slope_low < slope_high else 'highest'} scores hardly differ"
        reason = f"{reason}; {held}" if reason else held
    return Calibration(kind, intercept, slope_low, slope_high, n, events, losses, reason)


def fit_temperature(logits: Array, classes: NDArray[np.int64]) -> Calibration:
    """One factor for all logits of several classes that exclude each other (Guo et al. 2017).

    It has the same prior as a slope above; `slope_low` and `slope_high` both are the factor, and
    `events` has no meaning.

    Args:
        logits: [N, C].
        classes: [N] the true class of each, 0 to C - 1.
    """
    n = len(classes)
    if n == 0:
        return Calibration(reason=f"{NOT_CALIBRATED}: no labelled sample to fit on")
    logits = logits - logits[np.arange(n), classes][:, None]  # of the true class: 0
    logits = logits[np.lexsort(logits.T)]  # sums do not depend on the rows' order
    few = n < FEWEST_FOR_A_CHOICE
    spread = SLOPE_SD_OF_FEW if few else SLOPE_SD

    def steepness(factor: float) -> float:
        """Of the loss, which is convex."""
        risen = np.exp(factor * (logits - logits.max(axis=1, keepdims=True)))
        mean = (risen * logits).sum(axis=1) / risen.sum(axis=1)
        return float(mean.sum()) + (factor - 1) / spread**2

    low, high = SMALLEST_SLOPE, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if steepness(middle) < 0 else (low, middle)
    reason = f"only {n} samples: held near 1" if few else None
    return Calibration("temperature", 0.0, high, high, n, 0, {}, reason)


def sigmoid(logit: Array) -> Array:
    """1 / (1 + exp(-logit)) without overflow."""
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1.0, small) / (1.0 + small)


def _checked(scores_logit: Array, labels: Array) -> tuple[Array, Array]:
    """Float arrays, sorted by label and logit so that sums do not depend on the rows' order."""
    logit = np.asarray(scores_logit, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if logit.ndim != 1 or logit.shape != label.shape:
        raise SchemaError(
            f"calibration: logits of shape {logit.shape} and labels of shape {label.shape}; "
            "give one label for each logit"
        )
    if bad := int((~np.isfinite(logit)).sum()):
        raise SchemaError(f"calibration: {bad} logits are not finite; leave those samples out")
    if bad := int((~np.isin(label, (0.0, 1.0))).sum()):
        raise SchemaError(f"calibration: {bad} labels are neither 0 nor 1; leave them out")
    order = np.lexsort((logit, label))
    return logit[order], label[order]


def _missing_class(events: int, n: int) -> str:
    if n == 0:
        return "no labelled sample"
    return "no negatives" if events else "no positives"


def simplest_near_best(losses: Mapping[str, Array]) -> str:
    """The first kind that loses to the best by at most one standard error of the difference.

    Args:
        losses: kind -> [N] losses of the same samples, the simplest kind first. As they are paired,
            what makes a sample hard to predict for every kind is no part of the standard error.
    """
    best = min(losses, key=lambda kind: float(losses[kind].mean()))
    gaps = {kind: loss - losses[best] for kind, loss in losses.items()}
    return next(
        kind
        for kind, gap in gaps.items()
        if gap.mean() <= gap.std(ddof=1) / math.sqrt(len(gap))  # 0 <= 0 for the best itself
    )


def _cross_fitted_losses(kind: str, logit: Array, label: Array) -> Array:
    """[N] log loss of each sample under parameters fitted on the folds it is not in."""
    generator = np.random.default_rng(0)
    fold = np.empty(len(label), dtype=np.int64)
    for value in (0.0, 1.0):  # folds are stratified: each has its share of the rarer class
        rows = np.flatnonzero(label == value)
        fold[generator.permutation(rows)] = np.arange(len(rows)) % FOLDS
    losses = np.empty(len(label))
    for held_out in range(FOLDS):
        inside = fold == held_out
        parameters = _fit(kind, logit[~inside], label[~inside], SLOPE_SD)
        margin = np.where(label[inside] == 1, -1.0, 1.0) * _line(parameters, logit[inside])
        losses[inside] = np.logaddexp(0.0, margin)
    return losses


def _line(parameters: tuple[float, float, float], logit: Array) -> Array:
    """The calibrated logit; an infinite logit stays infinite."""
    intercept, slope_low, slope_high = parameters
    if slope_low == slope_high:  # the same as below, without its rounding
        return intercept + slope_low * logit
    with np.errstate(invalid="ignore"):  # NaN in, NaN out, and no warning
        high, low = np.logaddexp(0, logit), np.logaddexp(0, -logit)
    return intercept + slope_high * high - slope_low * low


def _fit(kind: str, logit: Array, label: Array, slope_sd: float) -> tuple[float, float, float]:
    """Intercept, slope for low risks and slope for high risks of the best member of a kind."""
    one, high = np.ones_like(logit), np.logaddexp(0.0, logit)
    low = high - logit  # log(1 + exp(-z)); it enters with a minus sign
    if kind == "temperature":
        (slope,) = _fit_above(logit[:, None], label, slope_sd, slopes=(0,))
        return 0.0, slope, slope
    if kind == "platt":
        design = np.stack([one, logit], axis=1)
        intercept, slope = _fit_above(design, label, slope_sd, slopes=(1,))
        return intercept, slope, slope
    if kind == "beta":
        design = np.stack([one, -low, high], axis=1)
        intercept, slope_low, slope_high = _fit_above(design, label, slope_sd, slopes=(1, 2))
        return intercept, slope_low, slope_high
    return 0.0, 1.0, 1.0


def _fit_above(
    design: Array, label: Array, slope_sd: float, *, slopes: tuple[int, ...]
) -> list[float]:
    """Logistic regression under the prior whose `slopes` columns keep at least the smallest slope.

    The loss is convex, so the optimum is the best feasible one of the fits that hold some subset
    of the slopes at the bound: at most four fits.
    """
    best, best_loss = None, math.inf
    is_slope = np.isin(np.arange(design.shape[1]), slopes)
    centre = is_slope.astype(np.float64)
    ridge = np.where(is_slope, slope_sd, INTERCEPT_SD) ** -2.0
    for held_bits in range(2 ** len(slopes)):
        held = [column for place, column in enumerate(slopes) if held_bits >> place & 1]
        free = [column for column in range(design.shape[1]) if column not in held]
        coefficients = np.full(design.shape[1], SMALLEST_SLOPE)
        if free:
            offset = design[:, held].sum(axis=1) * SMALLEST_SLOPE
            coefficients[free] = fit_logistic(
                design[:, free], label, offset=offset, start=centre[free], ridge=ridge[free]
            )
        if not coefficients[list(slopes)].min() >= SMALLEST_SLOPE:
            continue
        line = design @ coefficients
        loss = float((np.logaddexp(0.0, line) - label * line).sum())
        loss += float(ridge @ (coefficients - centre) ** 2) / 2
        if loss < best_loss:
            best, best_loss = coefficients, loss
    assert best is not None  # the prior keeps every subset's problem well posed
    return [float(value) for value in best]


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
