"""Delimited text files, read a block at a time, with the rows that are none counted apart."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.files import SourceFile
from clinical.extract.importers.flat.mapping import FileRule
from clinical.extract.importers.flat.streams import (
    BLOCK_BYTES,
    WatchedQuotes,
    not_encoded,
    open_bytes,
    reading,
)

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv

HEADER_BYTES = 2**20

_SEPARATORS = {".psv": "|", ".tsv": "\t"}
_OTHERS = {
    b"\x1f\x8b": "it is gzipped; name it .gz",
    b"PK\x03\x04": "it is a ZIP archive or an Excel workbook; unpack it, or save it as CSV",
    b"PAR1": "it is Parquet; name it .parquet",
    b"\xd0\xcf\x11\xe0": "it is an Excel workbook; save it as CSV",
}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Header:
    """The columns of a file.

    Attributes:
        names: In order; a name that is there again has its position behind it, so that nothing
            reads it.
        n_lines: Lines to pass over before the first record.
        repeated: Names that are there more than once.
    """

    names: tuple[str, ...]
    n_lines: int
    repeated: frozenset[str]

    @classmethod
    def of(cls, cells: Sequence[str], *, n_lines: int, ignore_case: bool) -> "Header":
        """Of the cells of a first line."""
        names = [cell.strip() for cell in cells]
        names = [name.lower() for name in names] if ignore_case else names
        repeated = frozenset(name for name in names if name and names.count(name) > 1)
        unique = [
            f"{name}\0{at}" if not name or name in repeated else name
            for at, name in enumerate(names)
        ]
        return cls(tuple(unique), n_lines, repeated)


@dataclass(frozen=True)
class Block:
    """Records of a file.

    Attributes:
        table: The columns asked for, as far as the file has them.
        rows: [N] the number of each record, from 1; empty lines are none.
        ragged: Numbers of the records that have more or fewer cells than the header.
    """

    table: pa.Table
    rows: np.ndarray
    ragged: tuple[int, ...]


def read_header(file: SourceFile, rule: FileRule, *, ignore_case: bool = False) -> Header | None:
    """The header, or None of an empty file.

    Raises:
        SchemaError: It is no text in the mapping's encoding, or something else by its first bytes.
    """
    with open_bytes(file) as stream:
        start = reading(file, lambda: stream.read(HEADER_BYTES))
    if not start.strip():
        return None
    if known := next((told for magic, told in _OTHERS.items() if start.startswith(magic)), None):
        raise SchemaError(f"{file.where}: not delimited text; {known}")
    if start.startswith(_UTF_16) and rule.encoding.lower() == "utf-8":
        raise SchemaError(f"{file.where}: it is UTF-16; write encoding: utf-16 in its table")
    text = _decode(start, file, rule)
    reader = csv.reader(io.StringIO(text), delimiter=separator(file, rule))
    try:
        cells = next((cells for cells in reader if cells), [])
    except csv.Error as error:
        raise _no_header(file, str(error)) from None
    if rule.header is None:
        return Header.of(cells, n_lines=reader.line_num, ignore_case=ignore_case)
    if len(cells) != len(rule.header):
        raise SchemaError(
            f"{file.where}: has {len(cells)} columns; header: names {len(rule.header)}"
        )
    return Header.of(rule.header, n_lines=0, ignore_case=ignore_case)


def _no_header(file: SourceFile, why: str) -> SchemaError:
    """The error of a first line that can't be cut into cells; `why` is for us alone."""
    if "new-line" in why:
        return SchemaError(
            f"{file.where}: its lines end in CR alone, as on old Macs; save it with LF, such as by "
            "tr '\\r' '\\n'"
        )
    return SchemaError(
        f"{file.where}: its first line is no header; check the separator and quotation marks"
    )


def separator(file: SourceFile, rule: FileRule) -> str:
    """What stands between the cells."""
    if rule.separator is not None:
        return rule.separator
    name = file.path.name.lower().removesuffix(".gz")
    return next((mark for end, mark in _SEPARATORS.items() if name.endswith(end)), ",")


def read_blocks(
    file: SourceFile, rule: FileRule, header: Header, columns: Sequence[str], missing: Sequence[str]
) -> Iterator[Block]:
    """The records of a file, every cell as text, null where it says nothing.

    Raises:
        SchemaError: The file is damaged or not in its encoding, unpacks to far too much, or a
            record has no end.
    """
    ragged: list[int] = []
    wanted = [name for name in columns if name in header.names]
    with open_bytes(file) as stream:
        watched = WatchedQuotes(stream, separator(file, rule))
        reader = _open(file, watched, rule, header, wanted, missing, ragged)
        done, told = 0, 0
        while (batch := reading(file, lambda: next(reader, None))) is not None:
            rows, n_before = _numbers(done, batch.num_rows, ragged[told:])
            table = pa.Table.from_batches([batch]).select(wanted)
            yield Block(table, rows, tuple(ragged[told : told + n_before]))
            done, told = done + batch.num_rows + n_before, told + n_before
        if rest := ragged[told:]:
            schema = pa.schema([(name, pa.string()) for name in wanted])
            yield Block(schema.empty_table(), np.empty(0, dtype=np.int64), tuple(rest))
    if watched.is_suspicious:
        _check_quotes(file, rule)


def _open(
    file: SourceFile,
    stream: WatchedQuotes,
    rule: FileRule,
    header: Header,
    columns: Sequence[str],
    missing: Sequence[str],
    ragged: list[int],
) -> pa.csv.CSVStreamingReader:
    """Arrow's reader, which puts the numbers of records that are none into `ragged` as it goes."""

    def pass_over(row: pa.csv.InvalidRow) -> str:
        ragged.append(row.number - header.n_lines)
        return "skip"

    read = pa.csv.ReadOptions(
        use_threads=False,
        block_size=BLOCK_BYTES,
        skip_rows=header.n_lines,
        column_names=header.names,
        encoding=rule.encoding,
    )
    parse = pa.csv.ParseOptions(
        delimiter=separator(file, rule), newlines_in_values=True, invalid_row_handler=pass_over
    )
    convert = pa.csv.ConvertOptions(
        include_columns=columns or list(header.names[:1]),  # of none arrow would make all
        column_types=dict.fromkeys(header.names, pa.string()),
        strings_can_be_null=True,
        null_values=["", *missing],
    )
    source = pa.PythonFile(stream, mode="r")
    return reading(
        file,
        lambda: pa.csv.open_csv(
            source, read_options=read, parse_options=parse, convert_options=convert
        ),
    )


def _numbers(done: int, n_good: int, ragged: Sequence[int]) -> tuple[np.ndarray, int]:
    """Numbers of the next good records after `done`, and how many ragged ones lie before the last.

    Arrow may have told of ragged records that lie behind this block.
    """
    if not ragged:
        return np.arange(done + 1, done + n_good + 1), 0
    numbers = np.arange(done + 1, done + n_good + len(ragged) + 1)
    good = numbers[~np.isin(numbers, ragged)][:n_good]
    last = good[-1] if n_good else done
    return good, int((np.asarray(ragged) <= last).sum())


def _decode(start: bytes, file: SourceFile, rule: FileRule) -> str:
    try:
        text = start.decode(
            rule.encoding, errors="replace" if len(start) == HEADER_BYTES else "strict"
        )
    except LookupError:
        raise SchemaError(f"{file.where}: there is no encoding {rule.encoding}") from None
    except UnicodeError:
        raise not_encoded(file) from None
    return text.removeprefix("\ufeff")


def _check_quotes(file: SourceFile, rule: FileRule) -> None:
    """Refuse a file that Python's reader, which is slow and strict, says is wrongly quoted.

    A mark within a plain cell is only a mark.

    Raises:
        SchemaError: With the number of the record.
    """
    limit = csv.field_size_limit(2**31 - 1)
    record = 0
    try:
        with open_bytes(file) as raw, io.TextIOWrapper(raw, rule.encoding, newline="") as text:
            for cells in csv.reader(text, delimiter=separator(file, rule), strict=True):
                record += bool(cells)
    except csv.Error as error:
        at = f"record {record + (rule.header is not None):,}"
        if "unexpected end" in str(error):
            raise SchemaError(
                f"{file.where}: {at} opens a quotation mark that is never closed, so that the rows "
                "after it are one cell; close or double it"
            ) from None
        raise SchemaError(
            f"{file.where}: {at} has a quotation mark within a quoted cell, and nobody can say "
            "where the cell ends; double it"
        ) from None
    finally:
        csv.field_size_limit(limit)
