"""Whether two units can measure one quantity.

Values become positions in the train split of their own extract, which no conversion changes that
keeps their order. So it is enough to know that there is one; its factor is never needed.
"""

import re

_SPELLINGS = {
    "c": "cel", "degc": "cel", "°c": "cel", "celsius": "cel", "deg c": "cel",
    "[degf]": "degf", "°f": "degf", "f": "degf", "fahrenheit": "degf", "deg f": "degf",
    "bpm": "1/min", "/min": "1/min", "beats/min": "1/min", "insp/min": "1/min", "min-1": "1/min",
    "breaths/min": "1/min", "{beats}/min": "1/min", "{breaths}/min": "1/min",
    "mm hg": "mmhg", "mm[hg]": "mmhg", "cm[h2o]": "cmh2o", "cm h2o": "cmh2o",
    "percent": "%", "": "1", "unitless": "1",
    "iu/l": "u/l", "[iu]/l": "u/l",
    "10^9/l": "10*9/l", "10*3/ul": "10*9/l", "10^3/ul": "10*9/l", "k/ul": "10*9/l",
    "g/l": "g/l", "ng/ml": "ug/l", "mcg/l": "ug/l", "µg/l": "ug/l", "µmol/l": "umol/l",
    "mcg/ml": "mg/l", "ug/ml": "mg/l", "mcg/dl": "ug/dl",
    "a": "years", "yr": "years", "year": "years", "kgs": "kg", "lbs": "lb", "[lb_av]": "lb",
    "in": "inch", "[in_i]": "inch", "inches": "inch",
}  # fmt: skip
"""How else a unit is written, in lower case."""

_FAMILIES = (
    {"cel", "degf", "k"},
    {"kg", "g", "lb"},
    {"m", "cm", "mm", "inch"},
    {"mmhg", "kpa", "cmh2o", "mbar"},
    {"1", "%"},
    {"u/l", "ukat/l", "nkat/l"},
    {"l", "ml", "dl"},
    {"years", "mo", "months", "d", "days", "h", "hours"},
    {"g/dl", "g/l", "mg/dl", "mg/l", "ug/l", "ug/dl", "ng/dl", "pg/ml", "mmol/l", "umol/l",
     "nmol/l", "pmol/l", "meq/l"},
)  # fmt: skip
"""Units between which the conversion is a line that rises; of concentrations for one substance."""


def canonical(unit: str) -> str:
    """One spelling of a unit."""
    plain = re.sub(r"\s+", " ", unit.strip().lower())
    return _SPELLINGS.get(plain, plain)


def is_same(unit: str | None, other: str | None) -> bool:
    """Whether they are one unit; so are two that are not known."""
    if unit is None or other is None:
        return unit is other
    return canonical(unit) == canonical(other)


def is_convertible(unit: str | None, other: str | None) -> bool:
    """Whether nothing says that they measure different things."""
    if unit is None or other is None:
        return True
    both = {canonical(unit), canonical(other)}
    return len(both) == 1 or any(both <= family for family in _FAMILIES)
