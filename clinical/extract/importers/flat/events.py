"""Events of rows: one for each row or melted cell, or the reason why there is none."""

from clinical.extract.importers.flat.cell_rules import Cells
from clinical.extract.importers.flat.cells import as_number, blank
from clinical.extract.importers.flat.codebook import Codebook, is_unfit
from clinical.extract.importers.flat.images import ImageFolder
from clinical.extract.importers.flat.mapping import UnitRule
from clinical.extract.importers.flat.reasons import MAX_CATEGORY, Reason
from clinical.extract.importers.flat.rows import Rows, matches
from clinical.extract.importers.flat.templates import SEPARATOR
from clinical.extract.importers.flat.times import ReadTimes
from clinical.extract.importers.flat.words import Words

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

MAX_CHANGE = 1e-6
"""Relative; 32 bits keep seven digits of numbers between 1e-38 and 3e38."""


@dataclass(frozen=True)
class FoundEvents:
    """What the rows gave.

    Attributes:
        why: [N] the `Reason` for no event, 0 where there is one.
        events: `subject_id, time, code` (a number of the codebook), `numeric_value`, `text_value`,
            `image_path`, in the order of the rows.
    """

    why: np.ndarray
    events: pl.DataFrame


@dataclass(frozen=True)
class EventMaker:
    """Makes the events of a table.

    Attributes:
        codebook: Grows by the codes.
        images: Where images are copied to.
        units: Conversions.
        decimal: The mark of decimal fractions.
        keep_impossible: Keep values outside the plausible range of their code.
    """

    codebook: Codebook
    images: ImageFolder
    units: Sequence[UnitRule]
    decimal: str
    keep_impossible: bool

    def make(self, rows: Rows, cells: Cells, times: ReadTimes | None) -> FoundEvents:
        """The events of one rule.

        Args:
            rows: Of a batch.
            cells: The rule.
            times: Of the rows; None for static events.
        """
        n_rows, rule = rows.frame.height, cells.rule
        why = np.zeros(n_rows, dtype=np.uint8) if times is None else times.why.copy()
        if rule.where:
            why[~matches(rows.frame, rule.where)] = Reason.FILTERED
        words = Words(rows, cells, self.units)
        value, is_wrong = _values(rows, cells, self.decimal)
        value = words.convert(value)
        code = _code(rows, cells, words, value, is_wrong, why)
        image = words.template(rule.image)
        if cells.has_content:
            _set(why, ~_says(rows, cells, value, image), Reason.NO_VALUE)
        small = value.cast(pl.Float32, strict=False)
        _set(why, _is_unlike(small, value), Reason.BIG_VALUE)
        if image is not None:
            image = self.images.take(image, why)
        numbers = self._encode(cells, words, code, small, why)
        events = pl.DataFrame(
            {
                "subject_id": rows.subjects,
                "time": _nothing(n_rows, pl.Datetime("us")) if times is None else times.values,
                "code": numbers,
                "numeric_value": small,
                "text_value": _nothing(n_rows) if rule.text is None else rows.frame[rule.text],
                "image_path": _nothing(n_rows) if image is None else image,
            },
            schema_overrides={"text_value": pl.String},
        )
        return FoundEvents(why, events.filter(pl.Series(why == 0)) if why.any() else events)

    def _encode(
        self, cells: Cells, words: Words, code: pl.Series, value: pl.Series, why: np.ndarray
    ) -> np.ndarray:
        """[N] numbers of the codes; gives a reason to values that cannot be true of theirs."""
        kept = why == 0
        numbers = np.zeros(len(why), dtype=np.uint32)
        if kept.any():
            numbers[kept] = words.note(code, kept, self.codebook)
            if cells.rule.once:
                self.codebook.once.update(np.unique(numbers[kept]).tolist())
            if not self.keep_impossible and cells.value is not None:
                values = value.fill_null(np.nan).to_numpy()
                why[kept & self.codebook.is_impossible(numbers, values)] = Reason.IMPOSSIBLE
        return numbers


def _code(
    rows: Rows,
    cells: Cells,
    words: Words,
    value: pl.Series,
    is_wrong: pl.Series,
    why: np.ndarray,
) -> pl.Series:
    """[N] the code with its category; gives a reason to rows whose code or value is none."""
    code = words.code()
    if cells.rule.category is not None:
        category = blank(rows.text(cells.rule.category), value.is_not_null())
        _set(why, is_unfit(category, MAX_CATEGORY), Reason.LONG_CATEGORY)
        code = code.zip_with(category.is_null(), code + SEPARATOR + category)
        is_wrong = is_wrong & category.is_null()
    _set(why, is_wrong, Reason.BAD_VALUE)
    _set(why, code.is_null(), Reason.NO_CODE)
    _set(why, is_unfit(code), Reason.LONG_CODE)
    return code


def _says(rows: Rows, cells: Cells, value: pl.Series, image: pl.Series | None) -> pl.Series:
    """[N] whether an event says anything beyond its code."""
    said = value.is_not_null()
    for column in (cells.rule.category, cells.rule.text):
        said = said if column is None else said | rows.text(column).is_not_null()
    return said if image is None else said | image.is_not_null()


def _values(rows: Rows, cells: Cells, decimal: str) -> tuple[pl.Series, pl.Series]:
    if cells.value is None:
        n_rows = rows.frame.height
        none = pl.Series([None], dtype=pl.Float64).new_from_index(0, n_rows)
        return none, pl.Series([False]).new_from_index(0, n_rows)
    return as_number(rows.frame[cells.value], decimal=decimal)


def _is_unlike(small: pl.Series, value: pl.Series) -> pl.Series:
    """[N] whether 32 bits make another number of a value: infinity, or one that is near nothing."""
    difference = (small.cast(pl.Float64) - value).abs()
    is_changed = (difference > MAX_CHANGE * value.abs()) | small.is_infinite()
    return is_changed.fill_null(False) | (small.is_null() & value.is_not_null())


def _set(why: np.ndarray, mask: pl.Series, reason: Reason) -> None:
    """Give a reason to the rows that have none yet."""
    if mask.any():
        why[mask.fill_null(False).to_numpy() & (why == 0)] = reason


def _nothing(n_rows: int, kind: pl.DataType | type[pl.DataType] = pl.String) -> pl.Series:
    return pl.Series([None], dtype=kind).new_from_index(0, n_rows)
