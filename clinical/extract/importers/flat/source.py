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
        waiting: list[pl.DataFrame] = []
        ragged: list[tuple[int, int]] = []
        n_waiting = 0
        for number, (file, header) in enumerate(zip(self.files, self.headers, strict=True)):
            for block in self._blocks(file, header, columns):
                frame = self._placed(block, columns, file, number)
                ragged += [(number, row) for row in block.ragged]
                if waiting and waiting[0].schema != frame.schema:
                    yield Batch(pl.concat(waiting), ())
                    waiting, n_waiting = [], 0
                waiting.append(frame)
                n_waiting += frame.height
                if n_waiting >= BATCH_ROWS:
                    yield Batch(pl.concat(waiting), tuple(ragged))
                    waiting, ragged, n_waiting = [], [], 0
        if waiting:
            yield Batch(pl.concat(waiting), tuple(ragged))

    def _blocks(self, file: SourceFile, header: Header, columns: Sequence[str]) -> Iterator[Block]:
        if file.is_parquet:
            return columnar.read_blocks(file, header, columns, self.missing)
        return delimited.read_blocks(file, self.rule, header, columns, self.missing)

    def _placed(
        self, block: Block, columns: Sequence[str], file: SourceFile, number: int
    ) -> pl.DataFrame:
        given = {
            name: pl.col(name) if name in block.frame.columns else pl.lit(None, dtype=pl.String)
            for name in columns
        }
        for name, text in file.captured.items():
            if name in given and name not in block.frame.columns:
                given[name] = pl.lit(text)
        for name, replacements in self.rule.replace.items():
            if name in given:
                given[name] = _replaced(given[name], replacements)
        rows = pl.Series(ROW, block.rows.astype(np.int64))
        placed = block.frame.with_columns(rows, pl.lit(number, dtype=pl.UInt32).alias(FILE))
        return placed.select(*(cell.alias(name) for name, cell in given.items()), FILE, ROW)


def _replaced(cell: pl.Expr, replacements: dict[str, str | None]) -> pl.Expr:
    old, new = list(replacements), pl.Series(list(replacements.values()), dtype=pl.String)
    text = cell.cast(pl.String)
    return text.replace_strict(old, new, default=text, return_dtype=pl.String)
