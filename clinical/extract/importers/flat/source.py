"""A table's rows, whatever its files are: merged into batches, each row with its place."""

from clinical.config_file import likely
from clinical.errors import SchemaError
from clinical.extract.importers.flat import columnar, delimited
from clinical.extract.importers.flat.delimited import Block, Header
from clinical.extract.importers.flat.files import SourceFile, captures, find_files
from clinical.extract.importers.flat.keys import Use
from clinical.extract.importers.flat.mapping import FileRule, MappingConfig

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

BATCH_ROWS = 250_000
# Names that no column of a source has.
FILE = "//file"
ROW = "//row"


@dataclass(frozen=True)
class Batch:
    """Rows of a table.

    Attributes:
        frame: The columns asked for, and `FILE`, `ROW`: the file's position and the record's
            number in it, from 1.
        ragged: The places of records that have more or fewer cells than the header.
    """

    frame: pl.DataFrame
    ragged: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Source:
    """The files of a table, opened as far as their headers.

    Attributes:
        files: Those that have one, in the order of their names.
        headers: One for each.
        empty: Files without a single character.
        columns: Names that the files or their names give, in order.
    """

    rule: FileRule
    files: tuple[SourceFile, ...]
    headers: tuple[Header, ...]
    empty: tuple[SourceFile, ...]
    missing: tuple[str, ...]
    captured: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path, rule: FileRule, mapping: MappingConfig) -> "Source":
        """Find the files and read their headers.

        Raises:
            SchemaError: A file is damaged or not what its name says, or all are empty.
        """
        found = find_files(folder, rule.files, ignore_case=mapping.ignore_case)
        files, headers, empty = [], [], []
        for file in found:
            if file.is_parquet and file.path.stat().st_size:
                header = columnar.read_header(file, ignore_case=mapping.ignore_case)
            elif not file.path.stat().st_size:
                header = None
            else:
                header = delimited.read_header(file, rule, ignore_case=mapping.ignore_case)
            if header is None:
                empty.append(file)
            else:
                files.append(file)
                headers.append(header)
        if empty and not files:
            raise SchemaError(f"{empty[0].where}: is empty, without even a header; copy it again")
        missing = mapping.missing if rule.missing is None else rule.missing
        names = captures(rule.files)
        return cls(rule, tuple(files), tuple(headers), tuple(empty), missing, tuple(names))

    @property
    def columns(self) -> list[str]:
        """Names that the files give, and then those that their names give."""
        of_files = dict.fromkeys(
            n for header in self.headers for n in header.names if "\0" not in n
        )
        return [*of_files, *(name for name in self.captured if name not in of_files)]

    @property
    def n_bytes(self) -> int:
        """The size of all files."""
        return sum(file.path.stat().st_size for file in self.files)

    def problems(self, uses: Iterable[Use], *, others: Sequence[str] = ()) -> list[str]:
        """What the mapping asks of these files that they don't have, a message each.

        Args:
            uses: Paths of keys with the columns they name.
            others: Columns that joins and the like add.
        """
        known = [*self.columns, *others]
        where = self.files[0].where if len(self.files) == 1 else f"{len(self.files):,} files"
        repeated = {name for header in self.headers for name in header.repeated}
        found = []
        for path, name in dict.fromkeys(uses):
            if name in repeated:
                found.append(f"{path}: {where} has column {name} twice; rename one")
            elif name not in known:
                found.append(f"{path}: {where} has no column {name}{likely(name, known)}")
        return found

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Rows in the order of the files, with the replacements of the mapping.

        A column that a file lacks is null in its rows.
        """
        waiting: list[tuple[int, Block]] = []
        n_waiting = 0
        for number, (file, header) in enumerate(zip(self.files, self.headers, strict=True)):
            for block in self._blocks(file, header, columns):
                if waiting and not _fit(waiting[-1][1].table, block.table):
                    yield self._merged(waiting, columns)
                    waiting, n_waiting = [], 0
                waiting.append((number, block))
                n_waiting += len(block.rows)
                if n_waiting >= BATCH_ROWS:
                    yield self._merged(waiting, columns)
                    waiting, n_waiting = [], 0
        if waiting:
            yield self._merged(waiting, columns)

    def _blocks(self, file: SourceFile, header: Header, columns: Sequence[str]) -> Iterator[Block]:
        if file.is_parquet:
            return columnar.read_blocks(file, header, columns, self.missing)
        return delimited.read_blocks(file, self.rule, header, columns, self.missing)

    def _merged(self, blocks: Sequence[tuple[int, Block]], columns: Sequence[str]) -> Batch:
        """One frame of many blocks, as there may be thousands of small files."""
        table = pa.concat_tables([block.table for _, block in blocks], promote_options="default")
        frame = pl.from_arrow(table.combine_chunks())
        assert isinstance(frame, pl.DataFrame)
        lengths = [len(block.rows) for _, block in blocks]
        numbers = pl.Series(FILE, np.repeat([n for n, _ in blocks], lengths), dtype=pl.UInt32)
        rows = pl.Series(ROW, np.concatenate([block.rows for _, block in blocks]), dtype=pl.Int64)
        given = [self._cells(name, frame, numbers) for name in columns]
        ragged = tuple((number, row) for number, block in blocks for row in block.ragged)
        return Batch(pl.DataFrame([*given, numbers, rows]), ragged)

    def _cells(self, name: str, frame: pl.DataFrame, numbers: pl.Series) -> pl.Series:
        """A column of the files, or of their names, with its replacements."""
        if name in frame.columns:
            cells = frame[name]
        else:
            of_files = [file.captured.get(name) for file in self.files]
            cells = pl.Series(name, of_files, dtype=pl.String).gather(numbers)
        if (replacements := self.rule.replace.get(name)) is None:
            return cells
        return pl.select(_replaced(pl.lit(cells), replacements).alias(name)).to_series()


def _fit(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables have the same types in the columns that both have."""
    kinds = dict(zip(one.schema.names, one.schema.types, strict=True))
    return all(kinds.get(field.name, field.type) == field.type for field in other.schema)


def _replaced(cell: pl.Expr, replacements: dict[str, str | None]) -> pl.Expr:
    old, new = list(replacements), pl.Series(list(replacements.values()), dtype=pl.String)
    text = cell.cast(pl.String)
    return text.replace_strict(old, new, default=text, return_dtype=pl.String)
