"""The codes of an import: a number for each while it runs, a row of codes.parquet at its end."""

from clinical.extract.importers.flat.reasons import MAX_CODE
from clinical.extract.variables import code_table, plausible_ranges

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl


class Codebook:
    """Every code seen so far; its number is its place in the order of being seen."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.once: set[int] = set()
        """Codes of events that count once, however often they are repeated."""
        self._numbers: dict[str, int] = {}
        self._units: dict[int, set[str]] = {}
        self._descriptions: dict[int, str] = {}
        self._parents: dict[int, set[str]] = {}
        self._ranges = {code: (low, high) for code, low, high, _ in plausible_ranges().iter_rows()}
        self._lows: list[float] = []
        self._highs: list[float] = []

    def encode(self, codes: pl.Series) -> tuple[np.ndarray, list[str]]:
        """[N] the number of each code, and the codes that are new.

        Args:
            codes: [N] text without nulls.
        """
        found = codes.unique().to_list()
        new = [code for code in sorted(found) if code not in self._numbers]
        for code in new:
            self._append(code)
        if len(found) == 1:
            return np.full(len(codes), self._numbers[found[0]], dtype=np.uint32), new
        numbers = pl.Series([self._numbers[code] for code in found], dtype=pl.UInt32)
        encoded = codes.replace_strict(pl.Series(found), numbers, return_dtype=pl.UInt32)
        return encoded.to_numpy(), new

    def absorb(self, other: "Codebook") -> np.ndarray:
        """Take in the codes of another; [codes of the other] the places of its codes here."""
        if other.codes:
            self.encode(pl.Series(other.codes))
        places = [self._numbers[code] for code in other.codes]
        for number, place in enumerate(places):
            self._units.setdefault(place, set()).update(other._units.get(number, ()))
            self._parents.setdefault(place, set()).update(other._parents.get(number, ()))
            if number in other._descriptions:
                self._descriptions.setdefault(place, other._descriptions[number])
        self.once.update(places[number] for number in other.once)
        return np.array(places, dtype=np.uint32)

    def state(self) -> dict[str, Any]:
        """Plain values, for `of_state`."""
        return {
            "codes": self.codes,
            "once": sorted(self.once),
            "units": {number: sorted(units) for number, units in self._units.items()},
            "parents": {number: sorted(found) for number, found in self._parents.items()},
            "descriptions": self._descriptions,
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> "Codebook":
        """The codebook that gave the state, be it by way of JSON."""
        made = cls()
        for code in state["codes"]:
            made._append(code)
        made.once = set(state["once"])
        made._units = {int(n): set(units) for n, units in state["units"].items()}
        made._parents = {int(n): set(found) for n, found in state["parents"].items()}
        made._descriptions = {int(n): text for n, text in state["descriptions"].items()}
        return made

    def _append(self, code: str) -> None:
        self._numbers[code] = len(self.codes)
        self.codes.append(code)
        low, high = self._ranges.get(code, (-np.inf, np.inf))
        self._lows.append(low)
        self._highs.append(high)

    def is_impossible(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """[N] whether a value cannot be true of its code; never without a value or a range."""
        # 32 bits like the values, or a value at its limit would fall outside by rounding.
        low = np.asarray(self._lows, dtype=np.float32)[numbers]
        high = np.asarray(self._highs, dtype=np.float32)[numbers]
        return np.asarray((values < low) | (values > high))

    def describe(self, code: str, *, description: str | None, parent: str | None) -> None:
        """Note what is said of a code; the first description stays."""
        number = self._numbers[code]
        if description:
            self._descriptions.setdefault(number, description)
        if parent:
            self._parents.setdefault(number, set()).add(parent)

    def note_units(self, numbers: np.ndarray, units: pl.Series) -> None:
        """Note the units in which values of codes come."""
        pairs = pl.DataFrame({"code": numbers, "unit": units}).unique()
        for number, unit in pairs.iter_rows():
            self._units.setdefault(number, set()).add(unit or "")

    @property
    def n_of_several_units(self) -> int:
        """Codes whose values come in more than one unit."""
        return sum(len(units) > 1 for units in self._units.values())

    def texts(self) -> pl.Series:
        """The code of each number."""
        return pl.Series("code", self.codes, dtype=pl.String)

    def table(self) -> pl.DataFrame:
        """Rows for codes.parquet: `code, description, unit, parent_codes`."""
        known = code_table(self.codes).rename({"description": "known", "unit": "known_unit"})
        units = [self._unit(number) for number in range(len(self.codes))]
        parents = [
            sorted(self._parents.get(number, ())) or None for number in range(len(self.codes))
        ]
        said = pl.DataFrame(
            {
                "code": self.codes,
                "said": [self._descriptions.get(number) for number in range(len(self.codes))],
                "said_unit": units,
                "parent_codes": parents,
            },
            schema={
                "code": pl.String,
                "said": pl.String,
                "said_unit": pl.String,
                "parent_codes": pl.List(pl.String),
            },
        )
        return said.join(known, on="code").select(
            "code",
            pl.coalesce("said", "known").alias("description"),
            pl.coalesce("said_unit", "known_unit").alias("unit"),
            "parent_codes",
        )

    def _unit(self, number: int) -> str | None:
        units = self._units.get(number, set())
        return next(iter(units)) or None if len(units) == 1 else None


def is_unfit(codes: pl.Series, longest: int = MAX_CODE) -> pl.Series:
    """[N] whether a text is too long for a code, or runs over lines; False where null."""
    unfit = (codes.str.len_chars() > longest) | codes.str.contains("\n", literal=True)
    return unfit.fill_null(False)
