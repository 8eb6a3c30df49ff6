"""Labels by a task file of ACES (Xu et al., ICLR 2025), through the package es-aces.

ACES says by windows around a trigger who is in a cohort and what the label is. A window may look
at what comes after the prediction time: who is in is then decided by the future too, as its author
wants it. What is asserted is that the window of the label begins after the prediction time.
"""

from clinical.cohort.tasks.builder import Built
from clinical.cohort.tasks.flow import Flow, Sift
from clinical.cohort.window import is_visible_from
from clinical.errors import ConfigError, LeakageError, SchemaError
from clinical.extract.schema import Extract

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl

KEYS = ["subject_id", "prediction_time"]
AGAIN = "the same prediction time as another's"
CONTRADICT = "windows of the same prediction time contradict one another"


def is_aces(raw: Mapping[str, Any]) -> bool:
    """Whether a YAML file is a task of ACES."""
    return {"trigger", "windows"} <= raw.keys()


def build_aces(extract: Extract, path: Path) -> Built:
    """Samples, labels (`boolean_value`) and flow of a task file, one shard read after the other.

    Raises:
        ConfigError: es-aces is not installed; the file is wrong, or names no label or no
            prediction time.
        LeakageError: The window of the label shows what is visible at the prediction time.
        SchemaError: A shard cannot be read.
    """
    task = _load(path)
    built = [_build(extract.path / shard, task, where=shard) for shard in extract.shards]
    samples = pl.concat([part.samples for part in built]).sort(KEYS)
    return Built(samples, Flow.together([part.flow for part in built]))


def _load(path: Path) -> Any:
    try:
        from aces.config import TaskExtractorConfig
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path.name}: a task of ACES needs es-aces, which holds polars below 2: install "
            "'clinical[aces]', in an environment of its own if need be; its labels serve any"
        ) from error
    try:
        task = TaskExtractorConfig.load(config_path=path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path.name}: is no task of ACES; {reason}") from error
    for key, window in (
        ("label", task.label_window),
        ("index_timestamp", task.index_timestamp_window),
    ):
        if not window:
            raise ConfigError(f"{path.name}: no window has a {key}; name one, as ACES says")
    return task


def _build(shard: Path, task: Any, *, where: str) -> Built:
    from aces.predicates import get_predicates_df
    from aces.query import query

    try:
        events = get_predicates_df(task, SimpleNamespace(path=shard, standard="MEDS"))
        found = query(task, events)
    except (ValueError, OSError, pl.exceptions.PolarsError) as error:
        # The words of ACES are left out: they can quote values.
        raise SchemaError(
            f"{where}: ACES cannot ask its task of this file ({type(error).__name__}); run "
            "`clinical validate`, and try the task file with aces-cli"
        ) from None
    triggers = events.filter(pl.col("timestamp").is_not_null(), pl.col(task.trigger.predicate) > 0)
    anchors = triggers.select("subject_id", anchor="timestamp").with_row_index("sample")
    sift = Sift.begin(events["subject_id"].n_unique(), anchors, task.trigger.predicate)
    rows = _rows(found, anchors, task, where=where)
    sift = sift.keep(rows, "outside the windows of the task")
    once = rows.group_by(KEYS, maintain_order=True).agg(
        pl.col("sample").first(),
        pl.col("label").first(),
        (pl.col("label").n_unique() > 1).alias("differs"),
    )
    sift = sift.keep(once, AGAIN)
    why = pl.when("differs").then(pl.lit(CONTRADICT)).alias("why")
    label = pl.when(~pl.col("differs")).then("label").alias("boolean_value")
    labels = once.with_columns(label, why)
    flow = sift.label(labels, [CONTRADICT], "boolean_value")
    return Built(labels.select(*KEYS, "boolean_value"), flow)


def _rows(found: pl.DataFrame, anchors: pl.DataFrame, task: Any, *, where: str) -> pl.DataFrame:
    """`sample, subject_id, prediction_time, label` of what ACES found."""
    if found.is_empty():  # ACES gives no columns then
        return anchors.head(0).select(
            "sample", "subject_id", prediction_time="anchor", label=pl.lit(None, pl.Boolean)
        )
    name = task.label_window
    side = "end" if task.windows[name].root_node == "start" else "start"
    summary = pl.col(f"{name}.{side}_summary")
    rows = found.select(
        pl.col("subject_id").cast(pl.Int64),
        pl.col("index_timestamp").cast(pl.Datetime("us")).alias("prediction_time"),
        pl.col("trigger").alias("anchor"),
        (pl.col("label") > 0).alias("label"),
        # A window that is told from its end backwards has its times the other way round.
        pl.min_horizontal(
            summary.struct.field(f"timestamp_at_{end}") for end in ("start", "end")
        ).alias("time"),
    )
    is_leak = is_visible_from(inclusive=task.windows[name].start_inclusive)
    if n_leaks := rows.filter(is_leak).height:
        raise LeakageError(
            f"{where}: the window {name} begins before the prediction time in {n_leaks:,} of "
            f"{rows.height:,} samples, so that the label may be visible; let it begin after "
            "index_timestamp, start_inclusive: false"
        )
    return rows.join(anchors, on=["subject_id", "anchor"]).select("sample", *KEYS, "label")
