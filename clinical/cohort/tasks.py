"""Built-in tasks: labels from events, where an extract brings none.

A builder sees all events of some subjects and returns labels; its keyword arguments are the YAML
keys of the task. Patterns are regular expressions of whole codes.
"""

from clinical.cohort.window import is_future

from collections.abc import Callable, Sequence
from datetime import timedelta

import polars as pl

DIED_IN_HOSPITAL = ("MEDS_DEATH", "HOSPITAL_DISCHARGE//DIED.*")


def mortality(
    events: pl.DataFrame,
    *,
    anchor: str = "ICU_ADMISSION//.*",
    after_hours: float = 48.0,
    unit_exit: str = "ICU_DISCHARGE//.*",
    stay_end: str = "HOSPITAL_DISCHARGE//.*",
    death: Sequence[str] = DIED_IN_HOSPITAL,
) -> pl.DataFrame:
    """Death before the end of the hospital stay, predicted some hours after an anchor event.

    A sample needs the patient still in the unit: no exit, end of stay or death after the anchor
    and up to the prediction time. A stay without an end is labelled only by a later death.

    Args:
        events: `subject_id, time, code` of whole subjects.
        anchor: Codes that start the clock; each one gives a sample.
        after_hours: From the anchor to the prediction time.
        unit_exit: Codes that end the time in the unit.
        stay_end: Codes that end the stay.
        death: Codes of death.

    Returns:
        `subject_id, prediction_time, boolean_value`, sorted, each sample once.
    """
    dated = events.filter(pl.col("time").is_not_null())
    wait = timedelta(hours=after_hours)
    anchors = (
        dated.filter(matches([anchor]))
        .select("subject_id", pl.col("time").alias("anchor"))
        .unique()
        .with_columns((pl.col("anchor") + wait).alias("prediction_time"))
    )
    ended = dated.filter(matches([unit_exit, stay_end, *death]))
    paired = anchors.join(ended.select("subject_id", "time"), on="subject_id")
    gone = paired.filter((pl.col("time") > pl.col("anchor")) & ~is_future())
    staying = anchors.join(gone, on=["subject_id", "anchor"], how="anti")
    keys = ["subject_id", "prediction_time"]
    with_end = staying.join(
        _first_later(staying, dated.filter(matches([stay_end])), "end"), on=keys
    )
    labelled = with_end.join(_first_later(staying, dated.filter(matches(death)), "died"), on=keys)
    died_within = pl.col("died") <= pl.col("end")
    outcome = (
        pl.when(pl.col("end").is_null())
        .then(pl.when(pl.col("died").is_not_null()).then(True))
        .otherwise(died_within.fill_null(False))
    )
    return labelled.select(*keys, outcome.alias("boolean_value")).unique(keys).sort(keys)


def matches(patterns: Sequence[str]) -> pl.Expr:
    """Whether a whole `code` matches one of some regular expressions."""
    joined = "|".join(f"(?:{pattern})" for pattern in patterns)
    return pl.col("code").str.contains(f"^(?:{joined})$")


def _first_later(samples: pl.DataFrame, events: pl.DataFrame, name: str) -> pl.DataFrame:
    """Each sample with the time of its first event after the prediction time, null if none."""
    keys = ["subject_id", "prediction_time"]
    later = (
        samples.select(keys)
        .join(events.select("subject_id", "time"), on="subject_id")
        .filter(is_future())
        .group_by(keys)
        .agg(pl.col("time").min().alias(name))
    )
    return samples.select(keys).unique().join(later, on=keys, how="left")


TASK_BUILDERS: dict[str, Callable[..., pl.DataFrame]] = {"mortality": mortality}
