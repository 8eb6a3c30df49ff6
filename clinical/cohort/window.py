"""The time guard: the only place where the time of an event meets a prediction time.

Visible is what became available at or before the prediction time and not longer ago than the
window; a static event (null time) always is. Both ends are inclusive.
"""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

MICROSECONDS_PER_HOUR = 3_600_000_000
DAYS_PER_YEAR = 365.25

_NO_LIMIT = 2**62
_GAP = (pl.col("prediction_time") - pl.col("time")).dt.total_microseconds()


def visible(
    events: pl.DataFrame, samples: pl.DataFrame, windows: Mapping[str, float | None]
) -> pl.DataFrame:
    """Pair samples with their subject's events and keep what each may see.

    Args:
        events: `subject_id, time`, any other columns, `event` (row in the shard) and `modality`,
            which decides the window; rows with another or no modality are left out.
        samples: `sample, subject_id, prediction_time`.
        windows: Hours before the prediction time, for each modality; None sees everything before.

    Returns:
        One row per sample and visible event, sorted by `sample` and `event`: the columns of
        `events` without `time`, with `sample` and `hours` (before the prediction time, at least
        0; null where static).
    """
    limits = {
        name: _NO_LIMIT if hours is None else round(hours * MICROSECONDS_PER_HOUR)
        for name, hours in windows.items()
    }
    limit = pl.col("modality").replace_strict(limits, return_dtype=pl.Int64)
    routed = events.lazy().filter(pl.col("modality").is_in(list(windows)))
    return (
        samples.lazy()
        .select("sample", "subject_id", "prediction_time")
        .join(routed, on="subject_id")
        .with_columns(_GAP.alias("gap"))
        .filter(pl.col("time").is_null() | ((pl.col("gap") >= 0) & (pl.col("gap") <= limit)))
        .with_columns((pl.col("gap") / MICROSECONDS_PER_HOUR).alias("hours"))
        .drop("time", "prediction_time", "gap")
        .sort("sample", "event")
        .collect()
    )


def ages(births: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Age at the prediction time, whatever the window.

    Args:
        births: `subject_id, time, event` of the events of birth; a subject's first one counts.
        samples: `sample, subject_id, prediction_time`.

    Returns:
        `sample, subject_id, event, years`, where a birth at or before the prediction time is
        known.
    """
    first = births.filter(pl.col("time").is_not_null()).unique(
        "subject_id", keep="first", maintain_order=True
    )
    days = _GAP / (24 * MICROSECONDS_PER_HOUR)
    return (
        samples.join(first, on="subject_id")
        .with_columns((days / DAYS_PER_YEAR).alias("years"))
        .filter(pl.col("years") >= 0)
        .select("sample", "subject_id", "event", "years")
        .sort("sample")
    )


def earlier(
    events: pl.DataFrame, samples: pl.DataFrame, *, hours: float | None = None
) -> pl.DataFrame:
    """Pair samples with the dated events that they may see: what decides who is a sample.

    Args:
        events: `subject_id, time` and any other columns.
        samples: `sample, subject_id, prediction_time`.
        hours: Before the prediction time; None sees everything before.

    Returns:
        As `visible`, without static events.
    """
    dated = events.filter(pl.col("time").is_not_null()).with_row_index("event")
    seen = visible(dated.with_columns(modality=pl.lit("")), samples, {"": hours})
    return seen.drop("event", "modality")


def later(events: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Pair samples with the events after their prediction time: what labels are made of.

    Args:
        events: `subject_id, time` and any other columns.
        samples: `sample, subject_id, prediction_time`.

    Returns:
        One row per sample and later event, sorted by `sample` and `hours`: the columns of
        `events` without `time`, with `sample` and `hours` (after the prediction time, above 0).
    """
    return (
        samples.lazy()
        .select("sample", "subject_id", "prediction_time")
        .join(events.lazy(), on="subject_id")
        .filter(is_future())
        .with_columns((-_GAP / MICROSECONDS_PER_HOUR).alias("hours"))
        .drop("time", "prediction_time")
        .sort("sample", "hours", maintain_order=True)
        .collect()
    )


def is_visible_from(*, inclusive: bool) -> pl.Expr:
    """Whether a window that begins at `time` has anything that is visible in it; null is the start.

    Args:
        inclusive: Whether the window has its own beginning in it.
    """
    return (_GAP >= 0 if inclusive else _GAP > 0).fill_null(True)


def end_of_day(hours: str) -> pl.Expr:
    """Hours from `prediction_time` to the end of the day on which a later event falls, exclusive.

    Args:
        hours: The column with the hours from `prediction_time` to the event.
    """
    wait = pl.duration(microseconds=(pl.col(hours) * MICROSECONDS_PER_HOUR).round().cast(pl.Int64))
    ends = (pl.col("prediction_time") + wait).dt.truncate("1d").dt.offset_by("1d")
    return (ends - pl.col("prediction_time")).dt.total_microseconds() / MICROSECONDS_PER_HOUR


def is_future() -> pl.Expr:
    """Whether `time` is after `prediction_time`."""
    return _GAP < 0


def prediction_times(
    stays: pl.DataFrame, *, after_hours: float, every_hours: float | None = None
) -> pl.DataFrame:
    """When to predict for stays: some hours after they begin, and again while they last.

    A stay that has ended by a time gives none then: at its end, the end itself would be visible.

    Args:
        stays: `subject_id, anchor` (when it begins), `end` (null where nothing ends it) and `last`
            (the subject's last event).
        after_hours: From the anchor to the first prediction time.
        every_hours: From each prediction time to the next; None for the first alone. A stay
            without an end goes on until the subject's last event, inclusive.

    Returns:
        `subject_id, prediction_time`, each once.
    """
    wait = timedelta(hours=after_hours)
    first = (pl.col("anchor") + wait).alias("prediction_time")
    stays = stays.select("subject_id", first, "end", "last")
    before_end, until_last = (
        (pl.col(name) - pl.col("prediction_time")).dt.total_microseconds()
        for name in ("end", "last")
    )
    if every_hours is None:
        times = stays.filter(pl.col("end").is_null() | (before_end > 0))
        return times.select("subject_id", "prediction_time").unique()
    step = round(every_hours * MICROSECONDS_PER_HOUR)
    ended = (before_end + step - 1) // step
    still_open = 1 + (until_last // step).clip(0)
    turns = pl.when(pl.col("end").is_null()).then(still_open).otherwise(ended.clip(0))
    times = stays.with_columns(turn=pl.int_ranges(0, turns)).explode("turn").drop_nulls("turn")
    later = pl.duration(microseconds=pl.col("turn") * step)
    return times.select("subject_id", pl.col("prediction_time") + later).unique()
