"""Rows of a table made ready: parsed, split, joined, filtered, and each with its subject."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.cells import as_integer, as_number, as_text, hash_ids
from clinical.extract.importers.flat.keys import Condition, Where
from clinical.extract.importers.flat.mapping import Lookup, MappingConfig, Table
from clinical.extract.importers.flat.reasons import Reason
from clinical.extract.importers.flat.source import Source

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Rows:
    """Rows of a batch that have a subject and that no condition leaves out.

    Attributes:
        frame: [N] their cells.
        at: [N] the place of each in the batch; a row that was split has several here.
        subjects: [N] Int64.
        why: [batch] for each row of the batch why it isn't here, 0 if it is.
        unmatched: For each lookup, how many have a key that it lacks.
    """

    frame: pl.DataFrame
    at: np.ndarray
    subjects: pl.Series
    why: np.ndarray
    unmatched: dict[str, int]

    @cached_property
    def _texts(self) -> dict[str, pl.Series]:
        return {}

    def text(self, column: str) -> pl.Series:
        """The cells of a column as text; made once."""
        if column not in self._texts:
            self._texts[column] = as_text(self.frame[column])
        return self._texts[column]


class LookedUp:
    """The tables that others take columns from, in memory."""

    def __init__(self, folder: Path, mapping: MappingConfig, names: Sequence[str]) -> None:
        """Read those of these names."""
        self.frames: dict[str, pl.DataFrame] = {}
        self.absent: list[str] = []
        for name in names:
            self._read(name, folder, mapping)

    def _read(self, name: str, folder: Path, mapping: MappingConfig) -> None:
        rule = mapping.lookups[name]
        source = Source.open(folder, rule, mapping)
        wanted = list(dict.fromkeys([*rule.key, *rule.columns]))
        # The keys keep their places beside columns that may have their names.
        keys = [f"//key{number}" for number in range(len(rule.key))]
        schema = dict.fromkeys([*keys, *rule.columns.values()], pl.String)
        if not source.files:
            self.absent.append(name)
            self.frames[name] = pl.DataFrame(schema=schema)
            return
        uses = [(f"lookups.{name}", column) for column in (*wanted, *rule.replace)]
        if problems := source.problems(uses):
            raise SchemaError("\n".join(problems))
        chosen = [pl.col(old).alias(new) for old, new in rule.columns.items()]
        parts = [
            pl.DataFrame(
                [as_text(batch.frame[c]).alias(k) for c, k in zip(rule.key, keys, strict=True)]
            ).hstack(batch.frame.select(chosen))
            for batch in source.batches(wanted)
        ]
        frame = pl.concat(parts, how="vertical_relaxed") if parts else pl.DataFrame(schema=schema)
        rows = _kept(frame.drop_nulls(keys), keys, list(rule.columns.values()), rule)
        if n_again := rows.height - rows.select(keys).n_unique():
            raise SchemaError(
                f"lookups.{name}: {n_again} rows have a {', '.join(rule.key)} that another row has "
                "with other cells; choose a key that is there once"
            )
        self.frames[name] = rows


def _kept(
    rows: pl.DataFrame, keys: Sequence[str], columns: Sequence[str], rule: Lookup
) -> pl.DataFrame:
    """One row a key, if the lookup says which; else all that differ."""
    if rule.keep == "only":
        return rows.unique(maintain_order=True)
    said = rows.filter(~pl.all_horizontal(pl.col(columns).is_null()))
    if rule.keep != "first":
        numbers, _ = as_number(said[columns[0]], decimal=rule.decimal)
        is_number = numbers.is_not_null()
        order = numbers.filter(is_number).arg_sort(descending=rule.keep == "greatest")
        said = said.filter(is_number)[order]
    return said.unique(keys, keep="first", maintain_order=True)


def make_rows(batch: pl.DataFrame, table: Table, mapping: MappingConfig, lookups: LookedUp) -> Rows:
    """Parse, split, join and filter the rows of a batch, and read their subjects."""
    frame = batch
    for column, pattern in table.parse.items():
        frame = frame.with_columns(_groups(frame, column, pattern))
    at = pl.Series("//at", np.arange(frame.height), dtype=pl.UInt32)
    for column, mark in table.split.items():
        if "//at" not in frame.columns:
            frame = frame.with_columns(at)
        frame = frame.with_columns(as_text(frame[column]).str.split(mark)).explode(column)
        stripped = as_text(frame[column])
        # "a, , b" has two cells; a row whose cell is empty stays one row.
        is_left = frame[column].is_null() | stripped.is_not_null()
        frame = frame.with_columns(stripped.alias(column)).filter(is_left)
    unmatched = {}
    for name, keys in table.join.items():
        frame, n_unmatched = _join(frame, lookups.frames[name], keys)
        if name not in lookups.absent:
            unmatched[name] = n_unmatched
    places = frame["//at"].to_numpy() if "//at" in frame.columns else at.to_numpy()
    holds = matches(frame, table.where)
    name = table.subject or mapping.subject or ""
    subjects, is_wrong = _subjects(frame[name], mapping)
    why = np.where(subjects.is_null(), np.uint8(Reason.NO_SUBJECT), np.uint8(0))
    why[is_wrong.to_numpy()] = Reason.BAD_SUBJECT
    why[~holds] = Reason.FILTERED
    of_batch = np.zeros(batch.height, dtype=np.uint8)
    of_batch[places] = why
    if not why.any():
        return Rows(frame, places, subjects, of_batch, unmatched)
    kept = why == 0
    # A row that was split is here as soon as one of its parts is.
    of_batch[places[kept]] = 0
    mask = pl.Series(kept)
    return Rows(frame.filter(mask), places[kept], subjects.filter(mask), of_batch, unmatched)


def added_columns(table: Table, mapping: MappingConfig) -> list[str]:
    """Columns that parsing and joins add to those of the files."""
    parsed = [name for pattern in table.parse.values() for name in re.compile(pattern).groupindex]
    joined = [column for name in table.join for column in mapping.lookups[name].columns.values()]
    return [*parsed, *joined]


def matches(frame: pl.DataFrame, where: Where) -> np.ndarray:
    """[N] whether all conditions hold; a number is compared as it is written, or by its value."""
    holds = np.ones(frame.height, dtype=bool)
    for column, condition in where.items():
        holds &= _holds(as_text(frame[column]), condition)
    return holds


def _holds(text: pl.Series, condition: Condition) -> np.ndarray:
    holds = np.ones(len(text), dtype=bool)
    if condition.among is not None:
        holds &= _is_one(text, condition.among)
    if condition.none_of is not None:
        holds &= ~_is_one(text, condition.none_of)
    if condition.matches is not None:
        holds &= text.str.contains(condition.matches).fill_null(False).to_numpy()
    return holds


def _is_one(text: pl.Series, cells: tuple[str | None, ...]) -> np.ndarray:
    given = [cell for cell in cells if cell is not None]
    found = text.is_in(given).fill_null(False).to_numpy()
    if None in cells:
        found = found | text.is_null().to_numpy()
    numbers = pl.Series(given, dtype=pl.String).cast(pl.Float64, strict=False).drop_nulls()
    if len(numbers):
        values = text.cast(pl.Float64, strict=False)
        found = found | values.is_in(numbers.to_list()).fill_null(False).to_numpy()
    return np.asarray(found)


def _groups(frame: pl.DataFrame, column: str, pattern: str) -> list[pl.Series]:
    text = as_text(frame[column])
    groups: Mapping[str, int] = re.compile(pattern).groupindex
    return [text.str.extract(pattern, group).alias(name) for name, group in groups.items()]


def _join(
    frame: pl.DataFrame, lookup: pl.DataFrame, keys: tuple[str, ...]
) -> tuple[pl.DataFrame, int]:
    """Add the columns of a lookup, null where it lacks the key; how many rows have such a key."""
    ours = [as_text(frame[key]).alias(f"//key{number}") for number, key in enumerate(keys)]
    names = [key.name for key in ours]
    left = pl.DataFrame(ours).with_row_index("//order")
    known = lookup.with_columns(pl.lit(True).alias("//known"))
    joined = left.join(known, on=names, how="left").sort("//order")
    is_unmatched = pl.col("//known").is_null() & pl.all_horizontal(pl.col(names).is_not_null())
    n_unmatched = int(joined.select(is_unmatched.sum()).item())
    added = joined.drop("//known").get_columns()[1 + len(ours) :]
    return frame.with_columns(added), n_unmatched


def _subjects(cells: pl.Series, mapping: MappingConfig) -> tuple[pl.Series, pl.Series]:
    if mapping.subject_ids == "hash":
        return hash_ids(cells, mapping.name), pl.Series([False]).new_from_index(0, len(cells))
    return as_integer(cells)
