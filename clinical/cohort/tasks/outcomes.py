"""From when something happens after the prediction time to a label, and what censoring says."""

from clinical.config import TaskKind

from collections.abc import Sequence
from typing import Literal

import polars as pl

IN_GAP = "the outcome comes in the gap"
NO_END = "the stay has no end before the next begins"
NOT_FOLLOWED = "the record ends before the horizon"

FollowUp = Literal["record", "assumed"]


def first(events: pl.DataFrame, *, name: str, times: int = 1) -> pl.DataFrame:
    """When the first of some events comes.

    Args:
        events: `sample, hours`.
        name: Of the column to make.
        times: The time that counts: 2 is the second of different times.

    Returns:
        `sample` and hours after the prediction time, of the samples that have one.
    """
    at = events.select("sample", "hours").unique().sort("sample", "hours")
    return at.group_by("sample", maintain_order=True).agg(
        pl.col("hours").slice(times - 1, 1).first().alias(name)
    )


def with_first(
    samples: pl.DataFrame, later: pl.DataFrame, which: pl.Expr, name: str, *, times: int = 1
) -> pl.DataFrame:
    """Samples with the hours to the first later event of a kind, null where there is none."""
    return samples.join(first(later.filter(which), name=name, times=times), on="sample", how="left")


def yes_or_no(
    samples: pl.DataFrame, *, gap_hours: float, within_hours: float | None, unknown: str
) -> pl.DataFrame:
    """Whether the outcome comes after the gap and by the end of the horizon, inclusive.

    Args:
        samples: With `event` (hours to the outcome, null if none) and `until` (hours up to which
            an outcome would have been seen, null if nobody knows).
        gap_hours, within_hours: From the prediction time; without a horizon it ends at `until`,
            and where that is unknown, an outcome counts whenever it comes.
        unknown: What to say where nobody knows.

    Returns:
        The samples with `boolean_value` and `why` (null where labelled).
    """
    horizon = pl.col("until") if within_hours is None else pl.lit(within_hours)
    event = pl.col("event")
    in_gap = event <= gap_hours if gap_hours > 0 else pl.lit(False)
    happens = event.is_not_null() & ((event <= horizon) | horizon.is_null())
    is_known = happens | (pl.col("until") >= horizon).fill_null(False)
    return samples.with_columns(
        pl.when(~in_gap.fill_null(False) & is_known).then(happens).alias("boolean_value"),
        _why(in_gap, is_known, unknown),
    )


def hours_to_event(
    samples: pl.DataFrame, *, gap_hours: float, within_hours: float | None, unknown: str
) -> pl.DataFrame:
    """Hours to the outcome, or to where the view of it ends (censored).

    Args:
        samples, gap_hours, unknown: As for `yes_or_no`.
        within_hours: Where the view ends at the latest.

    Returns:
        The samples with `float_value` (hours from the prediction time), `boolean_value` (the
        outcome was observed) and `why`.
    """
    event = pl.col("event")
    stop = pl.col("until") if within_hours is None else pl.min_horizontal("until", within_hours)
    in_gap = event <= gap_hours if gap_hours > 0 else pl.lit(False)
    seen = event.is_not_null() & ((event <= stop) | pl.col("until").is_null())
    is_known = seen | pl.col("until").is_not_null()
    keep = ~in_gap.fill_null(False) & is_known
    return samples.with_columns(
        pl.when(keep).then(pl.when(seen).then(event).otherwise(stop)).alias("float_value"),
        pl.when(keep).then(seen).alias("boolean_value"),
        _why(in_gap, is_known, unknown),
    )


def answer(
    samples: pl.DataFrame,
    kind: TaskKind,
    *,
    gap_hours: float,
    within_hours: float | None,
    unknown: str,
) -> pl.DataFrame:
    """`hours_to_event` of a time-to-event task, `yes_or_no` of a binary one."""
    make = hours_to_event if kind == "time_to_event" else yes_or_no
    return make(samples, gap_hours=gap_hours, within_hours=within_hours, unknown=unknown)


def followed(
    samples: pl.DataFrame,
    later: pl.DataFrame,
    kind: TaskKind,
    *,
    follow_up: FollowUp,
    death: pl.Expr,
) -> pl.DataFrame:
    """Samples with `until`: how long a record would have shown the outcome.

    Args:
        samples: `sample` and others.
        later: The events after each prediction time: `sample, hours, code`.
        kind: Death ends the view of a time-to-event task; to a question of yes or no it answers no.
        follow_up: "record" until the subject's last event; "assumed" without end, so that nothing
            in the record means that nothing happened. Time to event always goes by the record.
        death: Which events are deaths.
    """
    last = later.group_by("sample").agg(pl.col("hours").max().alias("until"))
    found = samples.join(last, on="sample", how="left")
    if kind != "time_to_event" and follow_up == "assumed":
        return found.with_columns(until=pl.lit(float("inf")))
    found = with_first(found, later, death, "death")
    if kind == "time_to_event":
        end = pl.coalesce("death", "until", pl.lit(0.0))
    else:
        end = (
            pl.when(pl.col("death").is_not_null())
            .then(float("inf"))
            .otherwise(pl.col("until").fill_null(0.0))
        )
    return found.with_columns(until=end).drop("death")


def within_stay(samples: pl.DataFrame, next_stay: str) -> pl.DataFrame:
    """Samples whose `event` and `until` belong to this stay and not to one that begins later.

    Args:
        samples: With `event`, `until` and the column `next_stay`, hours each.
        next_stay: When the next begins; a stay that ends after that has no end of its own.
    """
    begin = pl.col(next_stay)
    return samples.with_columns(
        pl.when(begin.is_null() | (pl.col(name) <= begin)).then(name).alias(name)
        for name in ("event", "until")
    )


def _why(in_gap: pl.Expr, is_known: pl.Expr, unknown: str) -> pl.Expr:
    return (
        pl.when(in_gap.fill_null(False))
        .then(pl.lit(IN_GAP))
        .when(~is_known)
        .then(pl.lit(unknown))
        .alias("why")
    )


def gap_problem(gap_hours: float, within_hours: float | None) -> str | None:
    """What is wrong with a gap and a horizon, or None."""
    if within_hours is not None and within_hours <= gap_hours:
        return "within_hours: ends before gap_hours does; both count from the prediction time"
    return None


def reasons(*names: str, gap_hours: float = 0.0) -> Sequence[str]:
    """What `why` may say, in the order of the flow."""
    return [*([IN_GAP] if gap_hours > 0 else []), *names]
