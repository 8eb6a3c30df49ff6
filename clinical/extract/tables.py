"""The tables of an extract: their columns, and how foreign column types become ours.

The core columns come from the `meds` package; ours are `image_path`, `samples.parquet` and the
edges between subjects.
"""

from clinical.errors import SchemaError

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
from flexible_schema import PyArrowSchema
from meds import CodeMetadataSchema, DataSchema, LabelSchema, SubjectSplitSchema


@dataclass(frozen=True)
class Table:
    """One kind of Parquet table.

    Attributes:
        name: The word for it in messages.
        schema: Every column that we read, in order.
        required: The columns that a file must have; an absent other one is read as nulls.
        never_null: The columns in which a null is an error.
    """

    name: str
    schema: pa.Schema
    required: tuple[str, ...]
    never_null: tuple[str, ...]

    @property
    def dtypes(self) -> dict[str, pl.DataType]:
        """Column names and polars types, in order."""
        empty = pl.from_arrow(self.schema.empty_table())
        assert isinstance(empty, pl.DataFrame)
        return dict(empty.schema)

    def empty(self) -> pl.DataFrame:
        """A frame of this table without rows."""
        return pl.DataFrame(schema=self.dtypes)

    def read_types(self, frame: pl.LazyFrame, *, where: str) -> pl.LazyFrame:
        """The table's columns in order with its types; other columns are dropped.

        Raises:
            SchemaError: A required column is absent or a type cannot be aligned.
        """
        found = frame.collect_schema()
        if problems := self.problems(found, where=where):
            raise SchemaError(problems[0])
        columns = [
            (pl.col(name) if name in found else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in self.dtypes.items()
        ]
        return frame.select(columns)

    def read(self, path: Path, *, where: str) -> pl.DataFrame:
        """One file of this table, with its types and without forbidden nulls.

        Raises:
            SchemaError: The file cannot be read or breaks the schema.
        """
        frame = collect(self.read_types(scan_file(path, where=where), where=where), where=where)
        self.check_nulls(frame, where=where)
        return frame

    def problems(self, found: pl.Schema, *, where: str) -> list[str]:
        """What stops a file with these columns from being read, one message each."""
        absent = [name for name in self.required if name not in found]
        messages = []
        if absent:
            messages.append(
                f"{where}: a table of {self.name} needs the column {', '.join(absent)}; "
                f"it has {', '.join(found.names()) or 'none'}"
            )
        for name, dtype in self.dtypes.items():
            if name in found and (problem := _type_problem(found[name], dtype)):
                messages.append(f"{where}: column {name} {problem}")
        return messages

    def check_nulls(self, frame: pl.DataFrame, *, where: str) -> None:
        """Refuse nulls where the table has none.

        Raises:
            SchemaError: With the first such column and its count.
        """
        for name in self.never_null:
            if n_null := frame[name].null_count():
                raise SchemaError(f"{where}: {n_null} rows have no {name}; fill or drop them")

    def to_arrow(self, frame: pl.DataFrame) -> pa.Table:
        """The frame as Arrow with exactly the types of the MEDS schema, extra columns kept."""
        wanted = {field.name: field.type for field in self.schema}
        table = frame.to_arrow()
        fields = [pa.field(f.name, wanted.get(f.name, f.type)) for f in table.schema]
        return table.cast(pa.schema(fields))


def scan_file(path: Path, *, where: str) -> pl.LazyFrame:
    """Open a Parquet file lazily, reading no more than its footer.

    Raises:
        SchemaError: It is not a whole Parquet file.
    """
    try:
        frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError):
        # Polars' own words are left out: they can quote values, which may identify a patient.
        raise SchemaError(
            f"{where}: not a complete Parquet file (truncated or of another format); "
            "write or copy it again"
        ) from None
    return frame


def collect(frame: pl.LazyFrame, *, where: str) -> pl.DataFrame:
    """Read what `scan_file` opened.

    Raises:
        SchemaError: The file's pages are damaged or a value does not fit its column's type.
    """
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, OSError):
        raise SchemaError(
            f"{where}: damaged, or a value does not fit its column's type "
            "(such as an id above 2^63); write the file again"
        ) from None


def _type_problem(found: pl.DataType, wanted: pl.DataType) -> str | None:
    """Why a column of type `found` cannot be read as `wanted`, or None if it can."""
    if isinstance(found, pl.Null) or found == wanted:
        return None
    if isinstance(found, pl.Datetime) and found.time_zone is not None:
        # Dropping it would shift times against those of other columns by hours, silently.
        return f"has the time zone {found.time_zone}; convert to one local time and drop the zone"
    accepted = (
        (isinstance(wanted, pl.Datetime) and isinstance(found, pl.Datetime))
        or (wanted.is_integer() and found.is_integer())
        or (wanted.is_float() and found.is_numeric())
        or (isinstance(wanted, pl.String) and isinstance(found, pl.Categorical | pl.Enum))
        or (isinstance(wanted, pl.List) and isinstance(found, pl.List))
    )
    return None if accepted else f"is {found}, not {wanted}; write it as {wanted}"


def _table(name: str, meds: type[PyArrowSchema], *extra: pa.Field) -> Table:
    required = tuple(meds.required_columns())
    schema = pa.schema([*meds.schema(), *extra])
    # A null time marks a static event; every other required column of MEDS is never null.
    return Table(name, schema, required, tuple(column for column in required if column != "time"))


EVENTS = _table("events", DataSchema, pa.field("image_path", pa.string()))
CODES = _table("codes", CodeMetadataSchema)
SPLITS = _table("subject splits", SubjectSplitSchema)
LABELS = _table("labels", LabelSchema)
SAMPLES = Table(
    "samples",
    pa.schema([LABELS.schema.field(name) for name in LABELS.required]),
    LABELS.required,
    LABELS.required,
)
_WHO = ("subject_id", "other_subject_id")
EDGES = Table(
    "edges",
    pa.schema(
        [
            ("subject_id", pa.int64()),
            ("prediction_time", pa.timestamp("us")),
            ("other_subject_id", pa.int64()),
            ("other_prediction_time", pa.timestamp("us")),
            ("weight", pa.float32()),
            ("time", pa.timestamp("us")),
        ]
    ),
    _WHO,
    _WHO,
)
