"""The real events behind the variables of samples: what was measured, when, and where it stands."""

from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.extract.schema import Extract
from clinical.extract.variables import read_variables
from clinical.modalities.codes import rows_of
from clinical.modalities.shards import jobs_of, modalities_of
from clinical.modalities.static import AGE

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

TAKEN_APART = ("events", "static", "codes")
"""Modalities whose variables are told."""
EVENTS: dict[str, pl.DataType] = {
    "row": pl.Int64(),
    "modality": pl.String(),
    "variable": pl.String(),
    "code": pl.String(),
    "time": pl.Datetime("us"),
    "value": pl.Float64(),
    "description": pl.String(),
    "unit": pl.String(),
    "file": pl.String(),
    "file_row": pl.Int64(),
}


def vocabulary_of(store: Store, config: RunConfig, modality: str) -> list[str]:
    """The names of a modality's variables, by their rows in its vocabulary."""
    statistics = store.statistics[modality]
    if modality == "codes":
        return list(statistics["vocabulary"])
    return list(modalities_of(config)[modality].variables(statistics))


def recorded(
    extract: Extract, store: Store, config: RunConfig, rows: NDArray[np.int64]
) -> pl.DataFrame:
    """The visible events of samples that the model reads as variables.

    Args:
        extract: that the store was prepared from.
        store: of the samples.
        config: of the run.
        rows: [N] of the store, each once.

    Returns:
        By row of the store, modality and time: `EVENTS`, where variable is the name by which the
        model knows the event's code (a class of it, where the code itself was not learned), value
        its number (of AGE the years), description what the extract's codes.parquet says of the
        code, or we do, unit ours, where we know one; file and file_row say where the event stands.
    """
    known = {
        name: _known(extract, store, config, name)
        for name in TAKEN_APART
        if name in config.modalities
    }
    if not len(rows) or not any(known.values()):
        return pl.DataFrame(schema=EVENTS)
    samples = store.samples[rows].select("subject_id", "prediction_time")
    asked = samples.with_columns(row=pl.Series(rows, dtype=pl.Int64))
    numbers = {shard: number for number, shard in enumerate(extract.shards)}
    shards = extract.subjects().with_columns(
        shard=pl.col("shard").replace_strict(numbers, return_dtype=pl.Int64)
    )
    cohort = asked.join(shards, on="subject_id").sort("shard", "row")
    parts = list[pl.DataFrame]()
    words, units = _described(extract)
    for job in jobs_of(extract, config, cohort.drop("row"), {}):
        own = cohort.filter(pl.col("shard") == job.number)
        file = extract.shards[job.number]
        frames = job.cut(Path())  # nothing is written, as no relation asks for codes
        parts += [
            _named(frames[name], own, known[name], name, file) for name in known if known[name]
        ]
    found = pl.concat(parts).with_columns(
        description=pl.col("code").replace_strict(words, default=None, return_dtype=pl.String),
        unit=pl.col("code").replace_strict(units, default=None, return_dtype=pl.String),
    )
    return found.select(*EVENTS).sort("row", "modality", "variable", "time", "file_row")


def _described(extract: Extract) -> tuple[dict[str, str], dict[str, str]]:
    """Code -> what it is, and code -> its unit, as far as anybody says."""
    words, units = {AGE: "age at the prediction time"}, {AGE: "years"}
    for variable in read_variables():
        for code in (variable.code, *variable.synonyms):
            words[code] = variable.description
            if variable.unit != "1":
                units[code] = variable.unit
    own = extract.codes().filter(pl.col("description").str.strip_chars().str.len_chars() > 0)
    return words | dict(own.select("code", "description").iter_rows()), units


def _known(extract: Extract, store: Store, config: RunConfig, modality: str) -> Mapping[str, str]:
    """Code -> the variable that it is known as."""
    vocabulary = vocabulary_of(store, config, modality)
    if modality != "codes":
        return {name: name for name in vocabulary}
    statistics, table = store.statistics[modality], extract.codes()
    wanted = {*table["code"].to_list(), *vocabulary, *statistics["stands_as"]}
    return {code: vocabulary[row] for code, row in rows_of(wanted, statistics, table).items()}


def _named(
    frame: pl.DataFrame,
    samples: pl.DataFrame,
    known: Mapping[str, str],
    modality: str,
    file: str,
) -> pl.DataFrame:
    """The events of one modality and shard that the model knows, by `EVENTS`."""
    of = samples.with_columns(sample=pl.int_range(pl.len(), dtype=pl.Int64))
    microseconds = (pl.col("hours") * 3_600_000_000).round().cast(pl.Int64)
    return (
        frame.filter(pl.col("code").is_in(list(known)))
        .join(of, on="sample")
        .select(
            "row",
            pl.lit(modality).alias("modality"),
            pl.col("code").replace_strict(known, return_dtype=pl.String).alias("variable"),
            "code",
            (pl.col("prediction_time") - pl.duration(microseconds=microseconds)).alias("time"),
            pl.col("numeric_value").cast(pl.Float64).alias("value"),
            pl.lit(file).alias("file"),
            pl.col("event").alias("file_row"),
        )
    )
