"""Smooth calibration of risks: identity, temperature, Platt or beta, no more than the data ask for.

All four are one strictly increasing family on the logit z of the uncalibrated risk,

    logit(calibrated) = intercept + slope_high * log(1 + exp(z)) - slope_low * log(1 + exp(-z)),

where `slope_low` is the slope for risks near 0 and `slope_high` that for risks near 1. Equal slopes
are Platt's line, slopes without an intercept are a temperature, 1 and 1 change nothing.
"""

from __future__ import annotations

from clinical.calibration.logistic import Array, sigmoid
from clinical.errors import BundleError

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KINDS = ("identity", "temperature", "platt", "beta")  # simplest first: it wins a tie
NOT_CALIBRATED = "not calibrated"


@dataclass(frozen=True)
class Calibration:
    """A strictly increasing map from the logit of an uncalibrated risk to a probability.

    Attributes:
        kind: one of `KINDS`.
        intercept, slope_low, slope_high: the family's parameters; both slopes are above 0.
        n, events: people of the calibrate half, and those of them with a positive row.
        log_loss: cross-fitted log loss of each kind that was compared, in nats, mean over people.
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
        return sigmoid(line_of(parameters, np.asarray(logit, dtype=np.float64)))

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


def line_of(parameters: tuple[float, float, float], logit: Array) -> Array:
    """The calibrated logit; an infinite logit stays infinite."""
    intercept, slope_low, slope_high = parameters
    if slope_low == slope_high:  # the same as below, without its rounding
        return intercept + slope_low * logit
    with np.errstate(invalid="ignore"):  # NaN in, NaN out, and no warning
        high, low = np.logaddexp(0, logit), np.logaddexp(0, -logit)
    return intercept + slope_high * high - slope_low * low
