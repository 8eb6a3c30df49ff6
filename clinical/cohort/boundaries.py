"""What splits by time or by site promise, held against subjects and samples.

The rules of `assigning.py` see new subjects alone, and what was known when the splits were made.
Subjects that had their split before, and samples that a task makes later, are checked here.
"""

from clinical.cohort.assigning import HELD_OUT, TRAIN
from clinical.errors import LeakageError, SchemaError

import json
from datetime import datetime
from pathlib import Path

import polars as pl

LATER_FROM = ("tuning_from", "held_out_from")
"""Where the later splits begin, as the record beside splits by time says."""


def check_dates(
    times: pl.DataFrame,
    *,
    tuning_from: datetime,
    held_out_from: datetime,
    what: str,
    remedy: str,
) -> None:
    """Refuse train from the beginning of tuning on, and tuning from that of held_out on.

    Args:
        times: `split, time`; tuning may be named by its halves, nulls are passed over.
        tuning_from, held_out_from: Where the later splits begin, inclusive.
        what: The rows are, in the plural, for the message.
        remedy: For the message.

    Raises:
        LeakageError: With the counts of such rows.
    """
    split, time = pl.col("split"), pl.col("time")
    is_train, is_held_out = split == TRAIN, split == HELD_OUT
    late = times.select(
        train=(is_train & (time >= tuning_from)).sum(),
        tuning=(~is_train & ~is_held_out & (time >= held_out_from)).sum(),
    )
    n_train, n_tuning = late.row(0)
    if n_train or n_tuning:
        raise LeakageError(
            f"splits by time: {n_train} {what} of train lie at tuning_from "
            f"({tuning_from.isoformat()}) or later, {n_tuning} of tuning at held_out_from "
            f"({held_out_from.isoformat()}) or later; {remedy}"
        )


def check_sites(frame: pl.DataFrame, sites: pl.DataFrame, held_out: list[str]) -> list[str]:
    """Refuse sites that are both learned from and held out.

    Args:
        frame: `subject_id, split` of all subjects.
        sites: `subject_id, site`, a row for each site of a subject.
        held_out: Sites that the rule holds out.

    Returns:
        These and the other sites of held-out subjects, sorted.

    Raises:
        LeakageError: With the count of subjects in train or tuning who are of such a site.
    """
    both = sites.join(frame, on="subject_id")
    out = {*held_out, *both.filter(pl.col("split") == HELD_OUT)["site"]}
    inside = both.filter(pl.col("split") != HELD_OUT, pl.col("site").is_in(list(out)))
    if not inside.is_empty():
        raise LeakageError(
            f"splits by site: {inside['subject_id'].n_unique()} subjects in train or tuning are of "
            "a site that is held out, as splits that were there are kept; hold out sites of which "
            "none is in train or tuning, or split anew without complete"
        )
    return sorted(out)


def check_as_recorded(splits: Path, cohort: pl.DataFrame) -> None:
    """Hold a run's samples against the dates in the record beside splits by time, if there is one.

    Args:
        splits: The Parquet file of the splits.
        cohort: `split, prediction_time`, a row a sample.

    Raises:
        LeakageError: A sample lies in the time of a later split.
        SchemaError: The record is of splits by time and its dates cannot be read.
    """
    path = splits.with_suffix(".json")
    if (dates := _recorded(path)) is None:
        return
    tuning_from, held_out_from = dates
    check_dates(
        cohort.select("split", time="prediction_time"),
        tuning_from=tuning_from,
        held_out_from=held_out_from,
        what="samples",
        remedy="write the labels of the run's tasks (clinical cohort) before splitting again by "
        f"time, so that they are seen; or remove {path.name} if it is not of these splits",
    )


def _recorded(path: Path) -> tuple[datetime, datetime] | None:
    """The two dates of a record of splits by time; None where there is no such record."""
    if not path.is_file():
        return None
    wrong = SchemaError(
        f"{path.name}: does not say by what rule, or from when on, subjects were split; split "
        "again, or remove it if it is not of these splits"
    )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["by"] != "time":
            return None
        tuning_from, held_out_from = (datetime.fromisoformat(record[name]) for name in LATER_FROM)
    except (ValueError, KeyError, TypeError):
        raise wrong from None
    if tuning_from.tzinfo or held_out_from.tzinfo:  # times of an extract have no zone
        raise wrong
    return tuning_from, held_out_from
