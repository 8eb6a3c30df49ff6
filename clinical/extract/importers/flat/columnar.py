"""Parquet files, read a block at a time."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.cells import as_text, blank
from clinical.extract.importers.flat.delimited import Block, Header
from clinical.extract.importers.flat.files import SourceFile

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 262_144


def read_header(file: SourceFile, *, ignore_case: bool = False) -> Header:
    """The columns of a file.

    Raises:
        SchemaError: It is not a whole Parquet file.
    """
    return Header.of(_open(file).schema_arrow.names, n_lines=0, ignore_case=ignore_case)


def read_blocks(
    file: SourceFile, header: Header, columns: Sequence[str], missing: Sequence[str]
) -> Iterator[Block]:
    """The records of a file with their own types; text is null where it says nothing.

    Raises:
        SchemaError: The file is damaged, or a column that is read holds lists, records or bytes.
    """
    opened = _open(file)
    wanted = [name for name in columns if name in header.names]
    places = {name: at for at, name in enumerate(header.names)}
    own = opened.schema_arrow.names
    for name in wanted:
        _check_plain(opened.schema_arrow.field(places[name]).type, name, file)
    done = 0
    try:
        for batch in opened.iter_batches(ROWS, columns=[own[places[n]] for n in wanted]):
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            frame = frame.select(pl.col(own[places[n]]).alias(n) for n in wanted)
            rows = np.arange(done + 1, done + batch.num_rows + 1)
            done += batch.num_rows
            yield Block(_empty_to_null(frame, missing).to_arrow(), rows, ())
    except (pa.ArrowException, OSError):
        raise SchemaError(f"{file.where}: a damaged Parquet file; copy it again") from None


def _open(file: SourceFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file.path)
    except (pa.ArrowException, OSError):
        raise SchemaError(
            f"{file.where}: not a complete Parquet file (truncated or of another format); "
            "write or copy it again"
        ) from None


def _check_plain(kind: pa.DataType, name: str, file: SourceFile) -> None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise SchemaError(
            f"{file.where}: column {name} is {kind}, not one plain value a row; "
            "unnest it, or leave it out of the mapping"
        )


def _empty_to_null(frame: pl.DataFrame, missing: Sequence[str]) -> pl.DataFrame:
    """Cells that say nothing as nulls; a number is one of `missing` as text has it, -1 for -1.0."""
    cells = []
    for column in frame.get_columns():
        if isinstance(column.dtype, pl.Categorical | pl.Enum):
            column = column.cast(pl.String)
        if column.dtype == pl.String:
            column = blank(column, column.is_in(["", *missing]))
        elif missing:
            column = blank(column, as_text(column).is_in(list(missing)))
        cells.append(column)
    return pl.DataFrame(cells)
