"""Facts without a time: age, sex, admission data."""

from clinical.cohort.columns import Ragged, open_columns, write_table
from clinical.containers import Vector
from clinical.errors import ConfigError
from clinical.modalities.contract import Counts, Frames, Statistics, nonzero
from clinical.modalities.quantiles import Quantiles
from clinical.modalities.sampling import Sample

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

AGE = "AGE"
"""The code under which the preparation hands over the age at the prediction time."""

AGE_COLUMN = "age_years"
FILE = "static.arrow"


class Static:
    """One column a code: the newest number as a position, or 1 for a category one has.

    A code is a number where at least half of its train rows carry one. A column of a code that
    train never saw does not exist; a column that a sample says nothing about is unknown.

    Args:
        max_columns: The most frequent codes of train that become columns.
        quantiles: Knots of a column with more distinct values than this.
    """

    def __init__(self, *, max_columns: int = 512, quantiles: int = 32) -> None:
        if max_columns < 1 or quantiles < 2:
            raise ConfigError("static: max_columns must be at least 1 and quantiles at least 2")
        self.max_columns = max_columns
        self.quantiles = quantiles

    def fit(
        self,
        shards: Frames,
        *,
        seed: int,
        codes: pl.DataFrame | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> Statistics:
        """Columns and knots from train; what codes are is not used."""
        rows: Counter[str] = Counter()
        numbers: Counter[str] = Counter()
        for frame in shards():
            counted = _facts(frame).group_by("column").agg(pl.len(), pl.col("number").count())
            for column, n_rows, n_numbers in counted.iter_rows():
                rows[column] += n_rows
                numbers[column] += n_numbers
        frequent_first = sorted(rows, key=lambda column: (-rows[column], column))
        columns = sorted(frequent_first[: self.max_columns])
        is_number = [2 * numbers[column] >= rows[column] for column in columns]
        values = Sample(len(columns), np.random.default_rng(seed))
        for frame in shards():
            known = _known(frame, columns, is_number).filter(pl.col("number").is_not_null())
            values.add(known["row"].to_numpy(), known["number"].to_numpy())
        knots = Quantiles.fit(*values.get(), len(columns), knots=self.quantiles)
        return {"columns": columns, "is_number": is_number, "values": knots.to_json()}

    def sizes(self, statistics: Statistics) -> dict[str, int]:
        """`columns` V of the vector."""
        return {"columns": len(statistics["columns"])}

    def variables(self, statistics: Statistics) -> Sequence[str]:
        """The columns, by the codes of their facts."""
        return [AGE if column == AGE_COLUMN else column for column in statistics["columns"]]

    def entries(self, statistics: Statistics) -> Sequence[str]:
        """The columns."""
        columns: Sequence[str] = statistics["columns"]
        return columns

    def write(
        self,
        visible: pl.DataFrame,
        n_samples: int,
        statistics: Statistics,
        folder: Path,
        *,
        read_image: Callable[[str], Path],
        workers: int = 1,
        codes: pl.DataFrame | None = None,
    ) -> Counts:
        """Write one shard.

        Returns:
            `unknown_codes`, and `without_number` of columns that are numbers.
        """
        columns, is_number = statistics["columns"], statistics["is_number"]
        known = _known(visible, columns, is_number)
        usable = known.filter(~pl.col("is_number") | pl.col("number").is_not_null())
        newest = usable.unique(["sample", "row"], keep="last", maintain_order=True)
        newest = newest.sort("sample", "row")
        row, sample = newest["row"].to_numpy(), newest["sample"].to_numpy()
        numbers = newest["number"].fill_null(0.0).to_numpy()
        position = Quantiles.from_json(statistics["values"]).apply(numbers, row)
        value = np.where(newest["is_number"].to_numpy(), position, np.float32(1))
        table = {
            "column": Ragged.from_rows(row, sample, n_samples),
            "value": Ragged.from_rows(value, sample, n_samples),
        }
        write_table(folder / FILE, table)
        return nonzero(
            {
                "unknown_codes": visible.height - known.height,
                "without_number": known.height - usable.height,
            }
        )

    def open(self, folders: Sequence[Path], statistics: Statistics) -> "StaticReader":
        """Read back what `write` left in `folders`."""
        return StaticReader(folders, self.sizes(statistics)["columns"])


class StaticReader:
    """Stored columns of all shards."""

    def __init__(self, folders: Sequence[Path], n_columns: int) -> None:
        self._columns = open_columns([folder / FILE for folder in folders])
        self._n_columns = n_columns

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[N] known columns of each sample."""
        return self._columns["column"].lengths

    @property
    def present(self) -> NDArray[np.bool_]:
        """[N] at least one known column."""
        return self.lengths > 0

    def collate(self, rows: NDArray[np.int64]) -> Vector:
        """The samples at `rows` [B]."""
        known = self._columns["column"].take_ragged(rows)
        value = np.zeros((len(rows), self._n_columns), dtype=np.float32)
        observed = np.zeros(value.shape, dtype=bool)
        value[known.row, known.values] = self._columns["value"].take_ragged(rows).values
        observed[known.row, known.values] = True
        return Vector(value=torch.from_numpy(value), observed=torch.from_numpy(observed))


def _facts(frame: pl.DataFrame) -> pl.DataFrame:
    """`sample, column, number`, null where the row carries no finite number; the oldest first."""
    column = pl.when(pl.col("code") == AGE).then(pl.lit(AGE_COLUMN)).otherwise(pl.col("code"))
    number = pl.when(pl.col("numeric_value").is_finite()).then(pl.col("numeric_value"))
    return frame.select("sample", column=column, number=number)


def _known(frame: pl.DataFrame, columns: Sequence[str], is_number: Sequence[bool]) -> pl.DataFrame:
    """The facts of known columns with `row`, that of the column, and `is_number`."""
    row = pl.col("column").cast(pl.Enum(columns), strict=False).to_physical().cast(pl.Int32)
    facts = _facts(frame).with_columns(row=row).filter(pl.col("row").is_not_null())
    kinds = np.array(is_number, dtype=bool)[facts["row"].to_numpy()]
    return facts.with_columns(is_number=pl.Series(kinds, dtype=pl.Boolean))
