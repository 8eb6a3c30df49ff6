"""Fitting a calibration to risks and labels, by people.

People are exchangeable, and rows of one person are not: where somebody has several, each counts the
less, folds hold people, and what is counted is people. With a row each, it is as if nobody asked.
"""

from __future__ import annotations

from clinical.calibration.calibration import KINDS, NOT_CALIBRATED, Calibration, line_of
from clinical.calibration.logistic import Array, fit_logistic
from clinical.errors import SchemaError

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Subjects = NDArray[np.int64]

FEWEST_FOR_A_CHOICE = 50
FOLDS = 5
SMALLEST_SLOPE = 0.01
INTERCEPT_SD, SLOPE_SD, SLOPE_SD_OF_FEW = 1.0, 1.0, 0.25
"""Of a normal prior around "change nothing". What is trained on log loss is seldom far off, while a
slope that is fitted on a few dozen events often is: below `FEWEST_FOR_A_CHOICE` it is held back."""


def fit_calibration(
    scores_logit: Array, labels: Array, subjects: Subjects | None = None
) -> Calibration:
    """Fit and choose a calibration on the `calibrate` half of the tuning split.

    Log losses are compared in 5-fold cross-fitting. The simplest kind that is within one standard
    error of the best wins (Breiman et al. 1984), and is refitted on everything. Below 50 people
    with positives (or with negatives) only Platt's line is fitted. A prior around "change nothing"
    stands in for the smoothed targets of Platt (1999), which flatten the slope of few events;
    separated classes give finite parameters too. The order of the rows does not matter.

    Args:
        scores_logit: [N] logits of the uncalibrated risks.
        labels: [N] 0 or 1.
        subjects: [N] whose row each is; by default everybody has one.

    Raises:
        SchemaError: shapes differ, a logit is not finite or a label is neither 0 nor 1.
    """
    rows = _checked(scores_logit, labels, subjects)
    n, positives, negatives = rows.n_people, rows.people_with(1), rows.people_with(0)
    if min(positives, negatives) == 0:
        words = f"{NOT_CALIBRATED}: {_missing_class(positives, n)} to fit on"
        return Calibration(n=n, events=positives, reason=words)
    losses: dict[str, float] = {}
    reason = None
    kind, slope_sd = "platt", SLOPE_SD
    if min(positives, negatives) < FEWEST_FOR_A_CHOICE:
        reason = (
            f"only {positives} positives and {negatives} negatives: Platt's line, no other tried"
        )
        slope_sd = SLOPE_SD_OF_FEW
    else:
        each = {kind: _cross_fitted_losses(kind, rows) for kind in KINDS}
        losses = {kind: float(loss.mean()) for kind, loss in each.items()}
        kind = simplest_near_best(each)
    intercept, slope_low, slope_high = _fit(kind, rows, slope_sd)
    if kind != "identity" and min(slope_low, slope_high) <= SMALLEST_SLOPE:
        held = "slope held at its smallest value: "
        if max(slope_low, slope_high) <= SMALLEST_SLOPE:
            held += "the scores hardly rank the calibrate half"
        else:
            held += f"the {'lowest' if slope_low < slope_high else 'highest'} scores hardly differ"
        reason = f"{reason}; {held}" if reason else held
    return Calibration(kind, intercept, slope_low, slope_high, n, positives, losses, reason)


def fit_temperature(
    logits: Array, classes: NDArray[np.int64], subjects: Subjects | None = None
) -> Calibration:
    """One factor for all logits of several classes that exclude each other (Guo et al. 2017).

    It has the same prior as a slope above; `slope_low` and `slope_high` both are the factor, and
    `events` has no meaning.

    Args:
        logits: [N, C].
        classes: [N] the true class of each, 0 to C - 1.
        subjects: [N] whose row each is; by default everybody has one.
    """
    if not len(classes):
        return Calibration(reason=f"{NOT_CALIBRATED}: no labelled sample to fit on")
    _, whose, n_rows = np.unique(
        np.arange(len(classes)) if subjects is None else subjects,
        return_inverse=True,
        return_counts=True,
    )
    n, weight = len(n_rows), 1 / n_rows[whose]
    logits = logits - logits[np.arange(len(classes)), classes][:, None]  # of the true class: 0
    order = np.lexsort((weight, *logits.T))  # sums do not depend on the rows' order
    logits, weight = logits[order], weight[order]
    few = n < FEWEST_FOR_A_CHOICE
    spread = SLOPE_SD_OF_FEW if few else SLOPE_SD

    def steepness(factor: float) -> float:
        """Of the loss, which is convex."""
        risen = np.exp(factor * (logits - logits.max(axis=1, keepdims=True)))
        mean = (risen * logits).sum(axis=1) / risen.sum(axis=1)
        return float((weight * mean).sum()) + (factor - 1) / spread**2

    low, high = SMALLEST_SLOPE, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if steepness(middle) < 0 else (low, middle)
    reason = f"only {n} people: held near 1" if few else None
    return Calibration("temperature", 0.0, high, high, n, 0, {}, reason)


@dataclass(frozen=True)
class _Rows:
    """[N] logit, label (0 or 1), whose row it is of P people, and what it counts of the person."""

    logit: Array
    label: Array
    whose: NDArray[np.int64]
    weight: Array

    @property
    def n_people(self) -> int:
        return int(self.whose.max(initial=-1)) + 1

    def people_with(self, label: int) -> int:
        """How many people have a row with this label."""
        return len(np.unique(self.whose[self.label == label]))

    def part(self, inside: NDArray[np.bool_]) -> _Rows:
        """All rows of some people."""
        return _Rows(*(values[inside] for values in vars(self).values()))


def _checked(scores_logit: Array, labels: Array, subjects: Subjects | None) -> _Rows:
    """Sorted, so that sums do not depend on the rows' order."""
    logit = np.asarray(scores_logit, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    person = np.arange(len(logit)) if subjects is None else np.asarray(subjects)
    if logit.ndim != 1 or not logit.shape == label.shape == person.shape:
        raise SchemaError(
            f"calibration: logits of shape {logit.shape}, labels of shape {label.shape} and "
            f"subjects of shape {person.shape}; give one label and subject for each logit"
        )
    if bad := int((~np.isfinite(logit)).sum()):
        raise SchemaError(f"calibration: {bad} logits are not finite; leave those samples out")
    if bad := int((~np.isin(label, (0.0, 1.0))).sum()):
        raise SchemaError(f"calibration: {bad} labels are neither 0 nor 1; leave them out")
    order = np.lexsort((person, logit, label))
    _, first, place, n_rows = np.unique(
        person[order], return_index=True, return_inverse=True, return_counts=True
    )
    whose = first.argsort().argsort()[place]  # by the first row: who is named how decides nothing
    return _Rows(logit[order], label[order], whose, 1 / n_rows[place])


def _missing_class(positives: int, n: int) -> str:
    if n == 0:
        return "no labelled sample"
    return "no negatives" if positives else "no positives"


def simplest_near_best(losses: Mapping[str, Array]) -> str:
    """The first kind that loses to the best by at most one standard error of the difference.

    Args:
        losses: kind -> [P] losses of the same people, the simplest kind first. As they are paired,
            what makes somebody hard to predict for every kind is no part of the standard error.
    """
    best = min(losses, key=lambda kind: float(losses[kind].mean()))
    gaps = {kind: loss - losses[best] for kind, loss in losses.items()}
    return next(
        kind
        for kind, gap in gaps.items()
        if gap.mean() <= gap.std(ddof=1) / math.sqrt(len(gap))  # 0 <= 0 for the best itself
    )


def _cross_fitted_losses(kind: str, rows: _Rows) -> Array:
    """[P] mean log loss of each person under parameters fitted on the folds they are not in."""
    generator = np.random.default_rng(0)
    fold = np.empty(rows.n_people, dtype=np.int64)
    has_event = np.bincount(rows.whose, rows.label) > 0
    for value in (False, True):  # folds are stratified: each has its share of the rarer class
        people = np.flatnonzero(has_event == value)
        fold[generator.permutation(people)] = np.arange(len(people)) % FOLDS
    losses = np.empty(len(rows.label))
    for held_out in range(FOLDS):
        inside = fold[rows.whose] == held_out
        parameters, left_out = _fit(kind, rows.part(~inside), SLOPE_SD), rows.part(inside)
        margin = np.where(left_out.label == 1, -1.0, 1.0) * line_of(parameters, left_out.logit)
        losses[inside] = np.logaddexp(0.0, margin)
    return np.asarray(np.bincount(rows.whose, rows.weight * losses), dtype=np.float64)


def _fit(kind: str, rows: _Rows, slope_sd: float) -> tuple[float, float, float]:
    """Intercept, slope for low risks and slope for high risks of the best member of a kind."""
    logit = rows.logit
    one, high = np.ones_like(logit), np.logaddexp(0.0, logit)
    low = high - logit  # log(1 + exp(-z)); it enters with a minus sign
    if kind == "temperature":
        (slope,) = _fit_above(logit[:, None], rows, slope_sd, slopes=(0,))
        return 0.0, slope, slope
    if kind == "platt":
        design = np.stack([one, logit], axis=1)
        intercept, slope = _fit_above(design, rows, slope_sd, slopes=(1,))
        return intercept, slope, slope
    if kind == "beta":
        design = np.stack([one, -low, high], axis=1)
        intercept, slope_low, slope_high = _fit_above(design, rows, slope_sd, slopes=(1, 2))
        return intercept, slope_low, slope_high
    return 0.0, 1.0, 1.0


def _fit_above(
    design: Array, rows: _Rows, slope_sd: float, *, slopes: tuple[int, ...]
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
                design[:, free],
                rows.label,
                offset=offset,
                weights=rows.weight,
                start=centre[free],
                ridge=ridge[free],
            )
        if not coefficients[list(slopes)].min() >= SMALLEST_SLOPE:
            continue
        line = design @ coefficients
        loss = float((rows.weight * (np.logaddexp(0.0, line) - rows.label * line)).sum())
        loss += float(ridge @ (coefficients - centre) ** 2) / 2
        if loss < best_loss:
            best, best_loss = coefficients, loss
    assert best is not None  # the prior keeps every subset's problem well posed
    return [float(value) for value in best]
