"""Vitals and labs: acute severity as a course over 48 hours, the outbreak's marker as a level.

Patients differ in their own baseline of every variable, and severity shows in where a variable
heads from there: it starts a little on the good side and ends on the bad one. The average over
the stay therefore tells much less than first and last value together. Sicker patients are also
measured more often and fluctuate more. C-reactive protein and temperature carry the marker.
"""

from clinical.extract.synthetic.causes import SEVERITY, Floats
from clinical.extract.synthetic.stays import PREDICTION_AFTER, Integers, Stays

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Measurement:
    """One measured quantity, normal on its scale.

    Attributes:
        code: As in PhysioNet 2012, where it has one.
        center: Middle value, in the unit of `variables.json`.
        spread: Standard deviation between patients; a factor if `is_log`.
        severity: Standard deviations it has moved at 48 h per unit of the severity reading.
        marker: Standard deviations it is shifted throughout per unit of the outbreak's marker.
        low, high: What a device would show at most.
        digits: Decimals it is written with.
        is_log: Whether `spread` multiplies.
    """

    code: str
    center: float
    spread: float
    severity: float
    low: float
    high: float
    digits: int = 1
    marker: float = 0.0
    is_log: bool = False


@dataclass(frozen=True)
class Panel:
    """Variables that are measured at once.

    Attributes:
        measured: All of them at each time.
        per_stay: Mean number of times in 48 h at a severity reading of zero, beyond `at_least`.
        urgency: How much more often, as log rate per unit of the severity reading.
        at_least: Times that every stay has, the first of them on admission.
    """

    measured: tuple[Measurement, ...]
    per_stay: float
    urgency: float
    at_least: int = 0


PANELS = (
    Panel(
        (
            Measurement("HR", 88, 15, 0.8, 25, 220, 0),
            Measurement("SysABP", 121, 18, -0.7, 40, 250, 0),
            Measurement("DiasABP", 61, 11, -0.6, 15, 150, 0),
            Measurement("RespRate", 19, 4.5, 0.8, 4, 60, 0),
            Measurement("SaO2", 95.5, 1.8, -0.7, 60, 100),
        ),
        per_stay=8.5,
        urgency=0.2,
        at_least=2,
    ),
    Panel((Measurement("Temp", 37.1, 0.6, 0.0, 32, 42, marker=0.8),), 5, 0.1, at_least=1),
    Panel(
        (
            Measurement("Na", 139, 4, 0.0, 110, 170, 0),
            Measurement("K", 4.1, 0.5, 0.3, 2, 8),
            Measurement("HCO3", 24, 3.5, -0.7, 5, 45, 0),
            Measurement("BUN", 22, 1.6, 0.6, 2, 180, 0, is_log=True),
            Measurement("Creatinine", 1.1, 1.5, 0.7, 0.2, 15, is_log=True),
            Measurement("Glucose", 135, 1.3, 0.4, 30, 700, 0, is_log=True),
        ),
        per_stay=2.5,
        urgency=0.25,
        at_least=1,
    ),
    Panel(
        (
            Measurement("WBC", 11.5, 1.4, 0.5, 0.3, 90, is_log=True),
            Measurement("Platelets", 200, 1.5, -0.6, 6, 1200, 0, is_log=True),
            Measurement("HCT", 31, 4.5, -0.3, 12, 60),
        ),
        per_stay=1.5,
        urgency=0.2,
        at_least=1,
    ),
    Panel(
        (
            Measurement("pH", 7.38, 0.06, -0.8, 6.8, 7.7, 2),
            Measurement("PaO2", 110, 1.35, -0.5, 25, 500, 0, is_log=True),
            Measurement("Lactate", 1.8, 1.5, 0.9, 0.3, 25, is_log=True),
        ),
        per_stay=1.5,
        urgency=0.6,
    ),
    Panel(
        (
            Measurement("CRP", 62, 2.0, 0.0, 0.5, 600, marker=0.95, is_log=True),
            Measurement("Bilirubin", 0.9, 1.7, 0.3, 0.1, 40, is_log=True),
        ),
        per_stay=1,
        urgency=0.2,
        at_least=1,
    ),
)
MEASUREMENTS = tuple(variable for panel in PANELS for variable in panel.measured)

BASELINE = 0.9
JITTER = 0.4
MARKER_JITTER = 0.3
# Log of the jitter's growth per unit of the severity reading.
RESTLESSNESS = 0.2
AFTER_HOURS = 24
# Where severity heads after the prediction, in readings: what the time guard must keep out.
AFTERMATH = 3.0


def render_events(rng: np.random.Generator, stays: Stays) -> pl.DataFrame:
    """Measurements from admission until a day after the prediction or the stay's end.

    Returns:
        Columns `stay` (row number), `minute`, `code`, `numeric_value`.
    """
    baselines = BASELINE * rng.standard_normal((len(stays), len(MEASUREMENTS)))
    frames, column = [], 0
    for panel in PANELS:
        stay, minute = _panel_times(rng, panel, stays)
        course = _course(stays, stay, minute)
        restless = np.exp(RESTLESSNESS * stays.readings[stay, SEVERITY])
        for variable in panel.measured:
            if variable.marker:
                noise = MARKER_JITTER * rng.standard_normal(len(stay))
                level = variable.marker * stays.marker[stay] + noise
            else:
                noise = JITTER * restless * rng.standard_normal(len(stay))
                level = baselines[stay, column] + variable.severity * course + noise
            frames.append(
                pl.DataFrame({"stay": stay, "minute": minute}).with_columns(
                    pl.lit(variable.code).alias("code"),
                    pl.Series("numeric_value", _to_unit(variable, level), dtype=pl.Float32),
                )
            )
            column += 1
    return pl.concat(frames)


def _panel_times(rng: np.random.Generator, panel: Panel, stays: Stays) -> tuple[Integers, Integers]:
    """Rows of stays and minutes at which the panel was measured, before and after predicting."""
    n = len(stays)
    rate = panel.per_stay * np.exp(panel.urgency * stays.readings[:, SEVERITY].clip(-2.5, 2.5))
    count = panel.at_least + rng.poisson(rate)
    stay = np.repeat(np.arange(n), count)
    offset = rng.integers(0, PREDICTION_AFTER, len(stay))
    is_first = np.concatenate([[True], stay[1:] != stay[:-1]])
    if panel.at_least:
        offset = np.where(is_first, offset // 48, offset)
    after = np.repeat(np.arange(n), rng.poisson(panel.per_stay / 2, n))
    later = PREDICTION_AFTER + rng.integers(1, AFTER_HOURS * 60, len(after))
    stay, offset = np.concatenate([stay, after]), np.concatenate([offset, later])
    minute = stays.admission[stay] + offset
    kept = minute < stays.end[stay]
    return stay[kept], minute[kept]


def _course(stays: Stays, stay: Integers, minute: Integers) -> Floats:
    """Severity as it stands at each time: from -0.5 readings at admission to 1 at 48 h."""
    share = (minute - stays.admission[stay]) / PREDICTION_AFTER
    # What counts for the outcome only begins after the prediction time.
    fate = np.where(stays.died[stay], AFTERMATH, -AFTERMATH) * (share - 1).clip(0)
    reading: Floats = stays.readings[stay, SEVERITY] * (1.5 * share.clip(0, 1) - 0.5) + fate
    return reading


def _to_unit(variable: Measurement, level: Floats) -> Floats:
    if variable.is_log:
        value = variable.center * variable.spread**level
    else:
        value = variable.center + variable.spread * level
    rounded: Floats = value.clip(variable.low, variable.high).round(variable.digits)
    return rounded
