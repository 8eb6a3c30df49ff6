"""Smooth calibration of risks: what it is, and how it is fitted."""

from clinical.calibration.calibration import KINDS, Calibration
from clinical.calibration.fitting import (
    SMALLEST_SLOPE,
    Subjects,
    fit_calibration,
    fit_temperature,
    simplest_near_best,
)
from clinical.calibration.logistic import Array, fit_logistic, sigmoid

__all__ = [
    "KINDS",
    "SMALLEST_SLOPE",
    "Array",
    "Calibration",
    "Subjects",
    "fit_calibration",
    "fit_logistic",
    "fit_temperature",
    "sigmoid",
    "simplest_near_best",
]
