"""Measured variables: their unit and the range outside which a value cannot be true.

The ranges of `data_schemas/variables.json` are physical limits, not reference ranges: an unusual
value is information, an impossible one is a mistake of recording.
"""

from clinical.errors import SchemaError

import functools
import importlib.resources
import json
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Variable:
    """One measured quantity.

    Attributes:
        code: Its code in our own extracts.
        description: What it is, in words.
        unit: The unit of its values; "1" for a ratio, a score or a category.
        plausible: The lowest and highest values that can be true, both included.
        loinc: The LOINC code for it, where certain.
        synonyms: Other codes for the same quantity in the same unit.
    """

    code: str
    description: str
    unit: str
    plausible: tuple[float, float]
    loinc: str | None = None
    synonyms: tuple[str, ...] = ()


@functools.cache
def read_variables() -> tuple[Variable, ...]:
    """Every variable of `data_schemas/variables.json`."""
    source = importlib.resources.files("clinical.data_schemas") / "variables.json"
    return tuple(
        Variable(
            code=entry["code"],
            description=entry["description"],
            unit=entry["unit"],
            plausible=(float(entry["plausible"][0]), float(entry["plausible"][1])),
            loinc=entry.get("loinc"),
            synonyms=tuple(entry.get("synonyms", ())),
        )
        for entry in json.loads(source.read_text(encoding="utf-8"))
    )


def plausible_ranges() -> pl.DataFrame:
    """`code, low, high, unit`, with a row for each code and each synonym."""
    rows = [
        (code, *variable.plausible, variable.unit)
        for variable in read_variables()
        for code in (variable.code, *variable.synonyms)
    ]
    schema = {"code": pl.String, "low": pl.Float64, "high": pl.Float64, "unit": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def is_implausible() -> pl.Expr:
    """Of events: the value cannot be true. False without a value or a range for the code."""
    ranges = plausible_ranges()
    value, code = pl.col("numeric_value").cast(pl.Float32), pl.col("code")

    def limit(name: str) -> pl.Expr:
        # 32 bits like the values, or a value at its limit would fall outside by rounding.
        return code.replace_strict(
            ranges["code"], ranges[name], default=None, return_dtype=pl.Float64
        ).cast(pl.Float32)

    # Polars holds NaN to be above every number; here it is no value.
    return ((value < limit("low")) | (value > limit("high")) & value.is_not_nan()).fill_null(False)


def count_implausible(events: pl.DataFrame) -> pl.DataFrame:
    """Codes with impossible values: `code, low, high, unit, count`, sorted by code."""
    counts = (
        events.filter(is_implausible())
        .group_by("code")
        .agg(pl.len().cast(pl.Int64).alias("count"))
        .join(plausible_ranges(), on="code")
    )
    return counts.select("code", "low", "high", "unit", "count").sort("code")


def code_table(codes: Iterable[str]) -> pl.DataFrame:
    """Rows for `codes.parquet`: `code, description, unit`, null for codes not in the JSON."""
    known = {variable.code: variable for variable in read_variables()}
    names = sorted(set(codes))
    if "" in names:
        raise SchemaError("codes: one is empty; name it or drop its events")
    return pl.DataFrame(
        {
            "code": names,
            "description": [known[c].description if c in known else None for c in names],
            "unit": [known[c].unit if c in known else None for c in names],
        },
        schema={"code": pl.String, "description": pl.String, "unit": pl.String},
    )
