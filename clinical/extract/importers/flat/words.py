"""The texts that a rule makes of each row: its unit, its code, what is said of the code."""

from clinical.extract.importers.flat.cell_rules import Cells
from clinical.extract.importers.flat.codebook import Codebook
from clinical.extract.importers.flat.mapping import MELTED, UNIT, UnitRule
from clinical.extract.importers.flat.rows import Rows
from clinical.extract.importers.flat.templates import Template

from collections.abc import Sequence

import numpy as np
import polars as pl


class Words:
    """The texts of the rows of a batch by one rule."""

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
