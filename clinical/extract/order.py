"""What MEDS asks of the rows of a shard: whole subjects, in time order, with finite values."""

from clinical.errors import SchemaError

import polars as pl

_SAME_SUBJECT = pl.col("subject_id") == pl.col("subject_id").shift()
_EARLIER = (pl.col("time") < pl.col("time").shift()) | (
    pl.col("time").is_null() & pl.col("time").shift().is_not_null()
)


def n_subjects_apart(events: pl.DataFrame) -> int:
    """How many subjects have rows in more than one place of the shard."""
    starts = events.filter(~_SAME_SUBJECT.fill_null(False)).get_column("subject_id")
    return int((starts.value_counts()["count"] > 1).sum())


def n_subjects_unordered(events: pl.DataFrame) -> int:
    """How many subjects have a row before an earlier one, or a static row after a dated one."""
    unordered = events.filter((_SAME_SUBJECT & _EARLIER).fill_null(False))
    return unordered.get_column("subject_id").n_unique()


def n_infinite(events: pl.DataFrame) -> int:
    """How many rows have an infinite number, as one too large for 32 bits becomes."""
    return int(events.get_column("numeric_value").is_infinite().sum())


def check_order(events: pl.DataFrame, *, where: str) -> None:
    """Refuse a shard whose rows nothing downstream could use as they are.

    Raises:
        SchemaError: With the count of the first problem found.
    """
    if n_apart := n_subjects_apart(events):
        raise SchemaError(
            f"{where}: the rows of {n_apart} subjects are not together; sort by subject_id and time"
        )
    if n_unordered := n_subjects_unordered(events):
        raise SchemaError(
            f"{where}: rows of {n_unordered} subjects are out of time order; "
            "sort by subject_id and time, null times first"
        )
    if n_values := n_infinite(events):
        raise SchemaError(
            f"{where}: numeric_value is infinite or beyond 32 bits in {n_values} rows; "
            "make them null or drop them"
        )
