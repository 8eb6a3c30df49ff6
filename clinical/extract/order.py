"""What is asked of the rows of a shard: subjects whole, in order and born first, values finite."""

from clinical.errors import SchemaError

from datetime import timedelta

import meds
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


def n_subjects_born_late(events: pl.DataFrame) -> int:
    """How many subjects are born more than a day after their first other event.

    A birth that is known to the day stands at its end, behind what happened to the newborn.
    """
    is_birth = pl.col("code") == meds.birth_code
    spans = (
        events.lazy()
        .filter(pl.col("time").is_not_null())
        .group_by("subject_id")
        .agg(
            pl.col("time").filter(is_birth).min().alias("birth"),
            pl.col("time").filter(~is_birth).min().alias("first"),
        )
        .filter(pl.col("birth") > pl.col("first") + timedelta(days=1))
        .collect()
    )
    return spans.height


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
