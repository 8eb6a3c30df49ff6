"""Columns on disk: Arrow IPC files, memory-mapped, read back as numpy views without a copy.

A column has one entry a row: of one shape for all rows, or a run of its own length (`Ragged`).
Whatever the number of files, the rows count through all of them in order.
"""

from clinical.errors import SchemaError

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths behind each other.

    Attributes:
        values: [total, ...], the runs of all rows, in order.
        offsets: [N + 1] int64; row i is `values[offsets[i]:offsets[i + 1]]`.
    """

    values: Array
    offsets: Array

    def __post_init__(self) -> None:
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.values):
            raise ValueError(f"offsets do not span the {len(self.values)} values")
        if np.any(np.diff(self.offsets) < 0):
            raise ValueError("offsets decrease")

    @classmethod
    def from_lengths(cls, values: Array, lengths: Array) -> "Ragged":
        """Runs of the given lengths [N], one behind the other."""
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(values, offsets)

    @classmethod
    def from_rows(cls, values: Array, row: Array, n_rows: int) -> "Ragged":
        """Values [total, ...] whose `row` [total] ascends and lies in 0 .. n_rows - 1."""
        if np.any(np.diff(row) < 0):
            raise ValueError("row does not ascend; sort the values by their row first")
        return cls.from_lengths(values, np.bincount(row, minlength=n_rows))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Array:
        """[N] int64."""
        return np.diff(self.offsets)

    @property
    def row(self) -> Array:
        """[total] int64, the row that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def get(self, row: int) -> Array:
        """The run of one row, a view."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def padded(self, fill: float = 0) -> tuple[Array, Array]:
        """Values [N, T, ...] filled up to the longest run, and mask [N, T] of the real ones."""
        lengths = self.lengths
        longest = int(lengths.max()) if len(lengths) else 0
        mask: Array = np.arange(longest) < lengths[:, None]
        shape = (len(self), longest, *self.values.shape[1:])
        padded = np.full(shape, fill, dtype=self.values.dtype)
        padded[mask] = self.values
        return padded, mask


def write_table(path: Path, columns: Mapping[str, Array | Ragged]) -> None:
    """Write columns of equally many rows as one Arrow IPC file.

    Args:
        path: The file; an existing one is replaced.
        columns: Arrays [N, ...] or `Ragged`, of whole or floating numbers. Masks are uint8.
    """
    write_blocks(path, [columns])


def write_blocks(path: Path, blocks: Iterable[Mapping[str, Array | Ragged]]) -> None:
    """The same for rows that come block by block, at least one, each with the same columns."""
    tables = (_batch(columns) for columns in blocks)
    first = next(tables)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, first.schema) as writer:
        writer.write_batch(first)
        for table in tables:
            writer.write_batch(table)


def _batch(columns: Mapping[str, Array | Ragged]) -> pa.RecordBatch:
    sizes = {len(column) for column in columns.values()}
    if len(sizes) > 1:
        raise ValueError(f"columns of {sorted(sizes)} rows cannot be one table")
    arrays, fields = [], []
    for name, column in columns.items():
        values = column.values if isinstance(column, Ragged) else np.asarray(column)
        if values.dtype.kind not in "iuf":
            raise ValueError(
                f"{name}: dtype {values.dtype} has no view on disk; use uint8 for masks"
            )
        array = _arrow(values)
        if isinstance(column, Ragged):
            offsets = pa.array(column.offsets.astype(np.int64, copy=False))
            array = pa.LargeListArray.from_arrays(offsets, array)
        shape = json.dumps(values.shape[1:])
        arrays.append(array)
        fields.append(pa.field(name, array.type, nullable=False, metadata={"shape": shape}))
    return pa.record_batch(arrays, schema=pa.schema(fields))


def _arrow(values: Array) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.ndim == 1:
        return flat
    width = int(np.prod(values.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(flat, width)


def _view(array: pa.Array, shape: Sequence[int]) -> Array | Ragged:
    """A numpy view of one column of one file."""
    if pa.types.is_large_list(array.type):
        offsets = array.offsets.to_numpy(zero_copy_only=True)
        values = _view(array.values, shape)
        assert not isinstance(values, Ragged)
        return Ragged(values, offsets)
    flat = array.values if pa.types.is_fixed_size_list(array.type) else array
    view: Array = flat.to_numpy(zero_copy_only=True).reshape(-1, *shape)
    return view


class Column:
    """One column over all files of a table."""

    def __init__(self, parts: Sequence[Array | Ragged]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def is_ragged(self) -> bool:
        """Rows have lengths of their own."""
        return isinstance(self._parts[0], Ragged)

    @property
    def lengths(self) -> Array:
        """[N] int64, the length of each row's run; for ragged columns."""
        return np.concatenate([part.lengths for part in self._parts if isinstance(part, Ragged)])

    def get(self, row: int) -> Array:
        """The entry of one row: a read-only view, to be copied before it enters a tensor."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        part, local = self._parts[number], row - int(self._starts[number])
        entry: Array = part.get(local) if isinstance(part, Ragged) else part[local]
        return entry

    def take(self, rows: Array) -> Array:
        """The entries [B, ...] of some rows in the order given, copied."""
        rows = np.asarray(rows, dtype=np.int64)
        taken = np.empty((len(rows), *self._shape), dtype=self._dtype)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers):
            here = numbers == number
            taken[here] = self._plain(number)[rows[here] - self._starts[number]]
        return taken

    def take_ragged(self, rows: Array) -> Ragged:
        """The runs of some rows in the order given, copied."""
        rows = np.asarray(rows, dtype=np.int64)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        local = rows - self._starts[numbers]
        start, stop = np.empty_like(rows), np.empty_like(rows)
        values = {}
        for number in np.unique(numbers).tolist():
            here = numbers == number
            part = self._ragged(number)
            offsets, values[number] = part.offsets, part.values
            start[here], stop[here] = offsets[local[here]], offsets[local[here] + 1]
        places = zip(numbers.tolist(), start.tolist(), stop.tolist(), strict=True)
        runs = [values[number][low:high] for number, low, high in places]
        joined = np.concatenate(runs) if runs else np.empty((0, *self._shape), self._dtype)
        return Ragged.from_lengths(joined, stop - start)

    def _ragged(self, number: int) -> Ragged:
        part = self._parts[number]
        if not isinstance(part, Ragged):
            raise TypeError("a column with entries of one shape has no runs; use take")
        return part

    def _plain(self, number: int) -> Array:
        part = self._parts[number]
        if isinstance(part, Ragged):
            raise TypeError("a ragged column has no entries of one shape; use take_ragged")
        return part

    @property
    def _shape(self) -> tuple[int, ...]:
        part = self._parts[0]
        values = part.values if isinstance(part, Ragged) else part
        shape: tuple[int, ...] = values.shape[1:]
        return shape

    @property
    def _dtype(self) -> np.dtype[Any]:
        part = self._parts[0]
        return part.values.dtype if isinstance(part, Ragged) else part.dtype


@dataclass
class Columns:
    """The columns of one or several files, opened when first used.

    It pickles as the paths alone, so that a worker process maps the files itself.
    """

    paths: Sequence[Path]
    _opened: dict[str, Column] | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "_opened": None}

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    @property
    def names(self) -> list[str]:
        """Column names in the order of the files."""
        return list(self._columns)

    @property
    def n_rows(self) -> int:
        """Rows over all files."""
        return len(next(iter(self._columns.values())))

    @property
    def _columns(self) -> dict[str, Column]:
        if self._opened is None:
            tables = [table for path in self.paths for table in _open(path)]
            self._opened = {name: Column([table[name] for table in tables]) for name in tables[0]}
        return self._opened


def open_columns(paths: Sequence[Path]) -> Columns:
    """The columns of files with the same columns, such as one a shard."""
    if not paths:
        raise ValueError("no file to open")
    return Columns([Path(path) for path in paths])


def _open(path: Path) -> list[dict[str, Array | Ragged]]:
    """The blocks of a file."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise SchemaError(
            f"{path.parent.name}/{path.name}: not a readable part of a store; prepare it again"
        ) from error
    shapes = [json.loads(field.metadata[b"shape"]) for field in reader.schema]
    return [
        {
            name: _view(array, shape)
            for name, array, shape in zip(batch.schema.names, batch.columns, shapes, strict=True)
        }
        for batch in batches
    ]
