"""Who the subjects are, and the frame of each stay: admission, unit, and how it ended."""

from clinical.extract.synthetic.stays import UNITS, Integers, Stays

import numpy as np
import polars as pl

HOSPITAL_ADMISSION = "HOSPITAL_ADMISSION//EMERGENCY"
ICU_ADMISSION = "ICU_ADMISSION"
ICU_DISCHARGE = "ICU_DISCHARGE"
HOSPITAL_DISCHARGE = {True: "HOSPITAL_DISCHARGE//DIED", False: "HOSPITAL_DISCHARGE//HOME"}
COMFORT_CARE = "ORDER//COMFORT_CARE"
CARDIAC_ARREST = "ICD10CM//I46.9"
BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"
# Code and description of all that this file writes.
DESCRIPTIONS = {
    "GENDER//F": "Female",
    "GENDER//M": "Male",
    "Height": "Body height",
    "Weight": "Body weight on admission",
    BIRTH: "Birth",
    DEATH: "Death",
    HOSPITAL_ADMISSION: "Admission to the hospital as an emergency",
    ICU_ADMISSION: "Admission to the intensive care unit",
    **{f"UNIT//{unit}": f"Cared for in the unit {unit}" for unit in UNITS},
    ICU_DISCHARGE: "Discharge from the intensive care unit, also by death",
    HOSPITAL_DISCHARGE[True]: "Discharge from the hospital: died",
    HOSPITAL_DISCHARGE[False]: "Discharge from the hospital: home",
    COMFORT_CARE: "Order: comfort measures only",
    CARDIAC_ARREST: "Cardiac arrest, coded at discharge",
}

SHARE_COMFORT_CARE = 0.7
MEN, WOMEN = (177.0, 7.5), (164.0, 7.0)
BODY_MASS_INDEX = (27.0, 4.5)


def render_static(rng: np.random.Generator, stays: Stays) -> pl.DataFrame:
    """Sex, height and weight without a time, and birth, of each subject's first stay.

    Returns:
        Columns `stay` (row number), `minute` (null if static), `code`, `numeric_value`.
    """
    first = np.flatnonzero(np.concatenate([[True], stays.subject[1:] != stays.subject[:-1]]))
    is_female = stays.is_female[first]
    noise = rng.standard_normal((2, len(first))).clip(-3, 3)
    center, spread = np.where(is_female[:, None], WOMEN, MEN).T
    height = (center + spread * noise[0]).round(0)
    index = BODY_MASS_INDEX[0] + BODY_MASS_INDEX[1] * noise[1]
    weight = ((height / 100) ** 2 * index).round(1)
    stay = pl.Series("stay", first)
    return pl.concat(
        [
            _static(stay, code=pl.Series(np.where(is_female, "GENDER//F", "GENDER//M"))),
            _static(stay, code="Height", value=height),
            _static(stay, code="Weight", value=weight),
            _static(stay, code=BIRTH, minute=stays.birth[first]),
        ]
    )


def _static(
    stay: pl.Series,
    *,
    code: str | pl.Series,
    value: np.ndarray | None = None,
    minute: Integers | None = None,
) -> pl.DataFrame:
    return stay.to_frame().with_columns(
        pl.lit(None if minute is None else pl.Series(minute), dtype=pl.Int64).alias("minute"),
        pl.lit(code).alias("code"),
        pl.lit(None if value is None else pl.Series(value)).cast(pl.Float32).alias("numeric_value"),
    )


def render_admissions(rng: np.random.Generator, stays: Stays) -> pl.DataFrame:
    """Admission and unit at the stay's start; everything else only after the prediction time.

    Returns:
        Columns `stay` (row number), `minute`, `code`.
    """
    n = len(stays)
    arrival = stays.admission - rng.integers(20, 360, n)
    remaining = stays.end - stays.prediction
    # Later than the prediction by a minute at least: this gives the outcome away.
    between = stays.prediction + 1 + (rng.uniform(0.0, 0.9, n) * (remaining - 1)).astype(np.int64)
    left_unit = np.where(stays.died, stays.end, between)
    died = np.flatnonzero(stays.died)
    alive = np.flatnonzero(~stays.died)
    comforted = died[rng.random(len(died)) < SHARE_COMFORT_CARE]
    everyone = np.arange(n)
    unit = np.array([f"UNIT//{name}" for name in UNITS])[stays.unit]
    rows: list[tuple[np.ndarray, Integers, str | pl.Series]] = [
        (everyone, arrival, HOSPITAL_ADMISSION),
        (everyone, stays.admission, ICU_ADMISSION),
        (everyone, stays.admission, pl.Series(unit)),
        (comforted, between[comforted], COMFORT_CARE),
        (everyone, left_unit, ICU_DISCHARGE),
        (died, stays.end[died], CARDIAC_ARREST),
        (died, stays.end[died], HOSPITAL_DISCHARGE[True]),
        (died, stays.end[died], DEATH),
        (alive, stays.end[alive], HOSPITAL_DISCHARGE[False]),
    ]
    return pl.concat(
        pl.DataFrame({"stay": stay, "minute": minute}).with_columns(pl.lit(code).alias("code"))
        for stay, minute, code in rows
    )
