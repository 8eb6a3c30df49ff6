"""Who a run is about: samples, their labels and their splits.

A hash of the subject's id, and of nothing else, halves the tuning split: `select` chooses epochs
and settings, `calibrate` fits what turns scores into probabilities. A subject's half therefore
stays the same when subjects are added, and for every seed.
"""

from clinical.cohort.boundaries import check_as_recorded
from clinical.cohort.labels import read_labels
from clinical.cohort.splits import check_disjoint
from clinical.config import RunConfig
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.extract.tables import SAMPLES

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import meds
import polars as pl

logger = logging.getLogger(__name__)

KEYS = ["subject_id", "prediction_time"]
HALVES = ("select", "calibrate")


def scoring_cohort(
    extract: Extract, config: RunConfig, *, samples: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The samples to score, with labels where they are known; needs no splits.

    Args:
        extract: What to score.
        config: Its tasks say where labels may be.
        samples: `subject_id, prediction_time`; by default the extract's own samples together
            with those of the labels it has.

    Returns:
        `subject_id, prediction_time, shard` (row of `extract.shards`) and the columns of
        `read_labels` (null where unknown), each sample once, sorted by shard, subject and time;
        `split` is null.

    Raises:
        SchemaError: Nothing says what to score, or a label is of an unknown subject.
    """
    labels = {
        name: frame
        for name, task in config.tasks.items()
        if (frame := read_labels(extract, name, task, is_optional=True)) is not None
    }
    own = extract.samples() if samples is None else aligned_samples(samples)
    if own is None and not labels:
        raise SchemaError(
            "samples.parquet: there is none, and the extract has no labels either; "
            "write one with subject_id and prediction_time"
        )
    parts = [own] if own is not None else []
    if samples is None:
        parts += [frame.select(KEYS) for frame in labels.values()]
        _say_sources(own, parts)
    cohort = _assemble(extract, config, parts, labels)
    return cohort.with_columns(pl.lit(None, dtype=pl.String).alias("split"))


def training_cohort(extract: Extract, config: RunConfig) -> pl.DataFrame:
    """The samples of a training run, with labels and splits.

    Returns:
        As `scoring_cohort`, with `split`: train, select, calibrate, held_out or null.

    Raises:
        ConfigError: A label folder is missing, or the splits have no tuning subject.
        LeakageError: A subject is in two splits, or by the record beside splits by time a sample is
            in the time of a later one.
        SchemaError: There are no splits or no train samples, or a label is of an unknown subject.
    """
    labels = {name: read_labels(extract, name, task) for name, task in config.tasks.items()}
    known = {name: frame for name, frame in labels.items() if frame is not None}
    own = extract.samples()
    parts = [own] if own is not None else []
    parts += [frame.select(KEYS) for frame in known.values()]
    _say_sources(own, parts)
    cohort = _with_splits(_assemble(extract, config, parts, known), extract, config.splits)
    _check_splits(cohort)
    return cohort


def _say_sources(own: pl.DataFrame | None, parts: Sequence[pl.DataFrame]) -> None:
    """Tell how many samples the labels bring along, so that nobody is surprised by them."""
    n_samples = pl.concat([SAMPLES.empty(), *parts]).n_unique()
    if own is None:
        logger.info("samples: %s, all from labels: no samples.parquet", f"{n_samples:,}")
        return
    from_labels = n_samples - own.height
    logger.info(
        "samples: %s from samples.parquet, %s more from labels alone",
        f"{own.height:,}",
        f"{from_labels:,}",
    )


def half(subject_id: int) -> str:
    """The half of the tuning split that a subject belongs to."""
    digest = hashlib.blake2b(f"clinical-tuning-half:{subject_id}".encode(), digest_size=8).digest()
    return HALVES[digest[0] & 1]


def aligned_samples(samples: pl.DataFrame) -> pl.DataFrame:
    """Samples that a user gives, with the types that the store has.

    Raises:
        SchemaError: a column is missing, of another kind or null.
    """
    aligned = SAMPLES.read_types(samples.lazy(), where="samples").collect()
    SAMPLES.check_nulls(aligned, where="samples")
    return aligned


def _assemble(
    extract: Extract,
    config: RunConfig,
    parts: Sequence[pl.DataFrame],
    labels: Mapping[str, pl.DataFrame],
) -> pl.DataFrame:
    samples = pl.concat([SAMPLES.empty(), *parts]).unique()
    if samples.is_empty():
        raise SchemaError(
            "samples: the cohort is empty; check samples.parquet, the label folders and the "
            "patterns of built-in tasks"
        )
    numbers = {shard: number for number, shard in enumerate(extract.shards)}
    place = extract.subjects().select(
        "subject_id", pl.col("shard").replace_strict(numbers, return_dtype=pl.Int64)
    )
    # A subject without any event has nothing visible: any shard can say so.
    placed = samples.join(place, on="subject_id", how="left").with_columns(
        pl.col("shard").fill_null(0)
    )
    for name, task in config.tasks.items():
        if name in labels:
            placed = placed.join(labels[name], on=KEYS, how="left")
        else:
            placed = placed.with_columns(
                pl.lit(None, dtype=pl.Float64).alias(column) for column in task.label_columns(name)
            )
    return placed.sort("shard", *KEYS)


def _with_splits(cohort: pl.DataFrame, extract: Extract, override: Path | None) -> pl.DataFrame:
    # Like extract and out, it is named from the working directory.
    splits = extract.splits(None if override is None else override.absolute())
    if splits is None:
        raise SchemaError(
            "metadata/subject_splits.parquet: there is none; write one (subject_id, split), or "
            "name a file of that schema with splits:"
        )
    tuning = splits.filter(pl.col("split") == "tuning")
    halves = pl.DataFrame(
        {
            "subject_id": tuning["subject_id"],
            "half": pl.Series([half(subject) for subject in tuning["subject_id"]], dtype=pl.String),
        }
    )
    together = (
        cohort.join(splits, on="subject_id", how="left")
        .join(halves, on="subject_id", how="left")
        .with_columns(pl.coalesce("half", "split").alias("split"))
        .drop("half")
        .sort("shard", *KEYS)
    )
    check_disjoint(together)
    path = meds.subject_splits_filepath if override is None else override.absolute()
    check_as_recorded(extract.path / path, together)
    return together


def _check_splits(cohort: pl.DataFrame) -> None:
    counts = dict(cohort["split"].value_counts().iter_rows())
    if not counts.get("train"):
        raise SchemaError("splits: no sample is in train; check that splits and samples match")
    if not any(counts.get(name) for name in HALVES):
        raise ConfigError(
            "splits: no sample is in tuning, which chooses epochs and fits the calibration; "
            "give some subjects the split tuning"
        )
    for name in HALVES:
        if not counts.get(name):
            raise ConfigError(
                f"splits: all tuning samples fall on one half and none on {name}; give more "
                "subjects the split tuning"
            )
