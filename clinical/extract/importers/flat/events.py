"""Events of rows: one for each row or melted cell, or the reason why there is none."""

from clinical.extract.importers.flat.cells import as_number, blank
from clinical.extract.importers.flat.codebook import Codebook, is_unfit
from clinical.extract.importers.flat.images import ImageFolder
from clinical.extract.importers.flat.mapping import (
    EVERY,
    MELTED,
    UNIT,
    EventRule,
    Table,
    UnitRule,
)
from clinical.extract.importers.flat.reasons import MAX_CATEGORY, Reason
from clinical.extract.importers.flat.rows import Rows, matches
from clinical.extract.importers.flat.templates import SEPARATOR, Template
from clinical.extract.importers.flat.times import ReadTimes

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Cells:
    """One rule for one column of cells: an entry of `events`, or a melted column of it.

    Attributes:
        path: What the rejects call it.
        rule: The entry.
        melted: The column, for a melted one.
        code: Its template.
    """

    path: str
    rule: EventRule
    melted: str | None
    code: Template

    @property
    def value(self) -> str | None:
        """The column of values."""
        return self.melted or self.rule.value

    @property
    def has_content(self) -> bool:
        """Whether an event of it must say something beyond its code."""
        rule = self.rule
        said = (self.value, rule.category, rule.text, rule.image)
        return any(name is not None for name in said) and not rule.keep_empty


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


def expand(table: Table, columns: Sequence[str], used: set[str]) -> list[Cells]:
    """Every entry of a table, melted ones once for each of their columns.

    Args:
        table: Its rules.
        columns: Of the table's files.
        used: Columns that something else than a melting names.
    """
    found = []
    for number, rule in enumerate(table.events):
        path = f"events.{number}"
        if not rule.melt:
            found.append(Cells(path, rule, None, rule.code_template))
            continue
        named = {name for other in table.events for name in other.melt}
        rest = [name for name in columns if name not in used | named | set(rule.without)]
        wanted = [n for name in rule.melt for n in (rest if name == EVERY else [name])]
        found += [Cells(f"{path}: {n}", rule, n, rule.code_template) for n in wanted]
    return found


def read_events(
    rows: Rows,
    cells: Cells,
    times: ReadTimes | None,
    codebook: Codebook,
    images: ImageFolder,
    *,
    units: Sequence[UnitRule],
    decimal: str,
    keep_impossible: bool,
) -> FoundEvents:
    """The events of one rule.

    Args:
        rows: Of a table.
        cells: The rule.
        times: Of the rows; None for static events.
        codebook: Grows by the codes.
        images: Where images are copied to.
        units: Conversions.
        decimal: The mark of decimal fractions.
        keep_impossible: Keep values outside the plausible range of their code.
    """
    n_rows, rule = rows.frame.height, cells.rule
    why = np.zeros(n_rows, dtype=np.uint8) if times is None else times.why.copy()
    if rule.where:
        why[~matches(rows.frame, rule.where)] = Reason.FILTERED
    value, is_wrong = _values(rows, cells, decimal)
    words = _Words(rows, cells, units)
    value = words.convert(value)
    code = words.code()
    if rule.category is not None:
        category = blank(rows.text(rule.category), value.is_not_null())
        _set(why, is_unfit(category, MAX_CATEGORY), Reason.LONG_CATEGORY)
        code = code.zip_with(category.is_null(), code + SEPARATOR + category)
        is_wrong = is_wrong & category.is_null()
    said = value.is_not_null()
    for column in (rule.category, rule.text):
        said = said if column is None else said | rows.text(column).is_not_null()
    image = words.template(rule.image)
    said = said if image is None else said | image.is_not_null()
    _set(why, is_wrong, Reason.BAD_VALUE)
    _set(why, code.is_null(), Reason.NO_CODE)
    _set(why, is_unfit(code), Reason.LONG_CODE)
    if cells.has_content:
        _set(why, ~said, Reason.NO_VALUE)
    small = value.cast(pl.Float32, strict=False)
    _set(why, (small.is_infinite() | (small.is_null() & value.is_not_null())), Reason.BIG_VALUE)
    if image is not None:
        image = images.take(image, why)
    kept = why == 0
    numbers = np.zeros(n_rows, dtype=np.uint32)
    if kept.any():
        numbers[kept] = words.note(code, kept, codebook)
        if not keep_impossible and cells.value is not None:
            values = small.fill_null(np.nan).to_numpy()
            impossible = kept & codebook.is_impossible(numbers, values)
            why[impossible] = Reason.IMPOSSIBLE
            kept &= ~impossible
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, n_rows)
    events = pl.DataFrame(
        {
            "subject_id": rows.subjects,
            "time": _no_times(n_rows) if times is None else times.values,
            "code": numbers,
            "numeric_value": small,
            "text_value": nothing if rule.text is None else rows.frame[rule.text].cast(pl.String),
            "image_path": nothing if image is None else image,
        }
    )
    return FoundEvents(why, events if kept.all() else events.filter(pl.Series(kept)))


class _Words:
    """The texts that a rule makes of each row: unit, code, description."""

    def __init__(self, rows: Rows, cells: Cells, units: Sequence[UnitRule]) -> None:
        self._rows, self._cells, self._rules = rows, cells, units
        unit = cells.rule.unit
        self._unit: pl.Series | None = None
        if unit is not None:
            self._unit = self._render(Template.parse(unit))

    def convert(self, value: pl.Series) -> pl.Series:
        """Values in the units that the rules make of theirs; the first rule that fits counts."""
        if self._unit is None or value.null_count() == len(value):
            return value
        before, pending = self._unit, pl.Series([True]).new_from_index(0, len(value))
        for rule in self._rules:
            fits = pending & before.is_in(list(rule.unit)).fill_null(False)
            if rule.codes and fits.any():
                pattern = "^(?:" + "|".join(rule.codes) + ")$"
                fits = fits & self.code().str.contains(pattern).fill_null(False)
            if fits.any():
                value = value.zip_with(~fits, (value + rule.add) * rule.multiply / rule.divide)
                self._unit = self._unit.zip_with(
                    ~fits, pl.Series([rule.to]).new_from_index(0, len(fits))
                )
                pending = pending & ~fits
        return value

    def code(self) -> pl.Series:
        """The code of each row without its category; null where a cell is empty."""
        return self._render(self._cells.code)

    def template(self, text: str | None) -> pl.Series | None:
        """Another text of the rule, if it has one."""
        return None if text is None else self._render(Template.parse(text))

    def note(self, code: pl.Series, kept: np.ndarray, codebook: Codebook) -> np.ndarray:
        """The numbers of the codes that are kept; tells the codebook what is known of them."""
        rule, mask = self._cells.rule, pl.Series(kept)
        is_all = bool(kept.all())
        codes = code if is_all else code.filter(mask)
        numbers, new = codebook.encode(codes)
        if self._unit is not None:
            units = self._unit if is_all else self._unit.filter(mask)
            if UNIT not in self._cells.code.columns:
                codebook.note_units(numbers, units)
            elif new:
                is_new = codes.is_in(new)
                codebook.note_units(numbers[is_new.to_numpy()], units.filter(is_new))
        if new and (rule.description is not None or rule.parent is not None):
            said = pl.DataFrame({"code": code}).with_columns(
                (pl.lit(None, pl.String) if made is None else made).alias(name)
                for name, made in (
                    ("description", self.template(rule.description)),
                    ("parent", self.template(rule.parent)),
                )
            )
            said = said.filter(mask & code.is_in(new)).unique("code", keep="first")
            for row in said.iter_rows(named=True):
                codebook.describe(row["code"], description=row["description"], parent=row["parent"])
        return numbers

    def _render(self, template: Template) -> pl.Series:
        n_rows = self._rows.frame.height
        texts = {name: self._text(name) for name in template.columns}
        literals = {name: text for name, text in texts.items() if isinstance(text, str)}
        given = [text.alias(n) for n, text in texts.items() if isinstance(text, pl.Series)]
        cells = {n: pl.lit(literals[n]) if n in literals else pl.col(n) for n in texts}
        made = pl.DataFrame(given).select(template.render(cells).alias("words")).to_series()
        return made if given else made.new_from_index(0, n_rows)

    def _text(self, name: str) -> pl.Series | str:
        if name == MELTED and self._cells.melted is not None:
            return self._cells.melted
        if name == UNIT and self._unit is not None:
            return self._unit
        return self._rows.text(name)


def _values(rows: Rows, cells: Cells, decimal: str) -> tuple[pl.Series, pl.Series]:
    if cells.value is None:
        n_rows = rows.frame.height
        none = pl.Series([None], dtype=pl.Float64).new_from_index(0, n_rows)
        return none, pl.Series([False]).new_from_index(0, n_rows)
    return as_number(rows.frame[cells.value], decimal=decimal)


def _set(why: np.ndarray, mask: pl.Series, reason: Reason) -> None:
    """Give a reason to the rows that have none yet."""
    if mask.any():
        why[mask.fill_null(False).to_numpy() & (why == 0)] = reason


def _no_times(n_rows: int) -> pl.Series:
    return pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, n_rows)
