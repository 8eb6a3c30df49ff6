"""What of an extract decides on splits: labels, latest times and sites of its subjects."""

from clinical.cohort.tasks.patterns import matches
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.extract.tables import collect, scan_file
from clinical.places import parquet_files

from collections.abc import Sequence
from pathlib import Path

import polars as pl


def strata_of(
    extract: Extract, subjects: pl.DataFrame, folders: Sequence[str | Path]
) -> pl.DataFrame:
    """Each subject with the combination of its labels: the highest of each folder."""
    found = subjects.with_columns(stratum=pl.lit(""))
    for folder in folders:
        labels = extract.labels(Path(folder))
        value = pl.coalesce(
            pl.col("boolean_value").cast(pl.String),
            pl.col("categorical_value"),
            pl.col("integer_value").cast(pl.String),
        )
        told = labels.select("subject_id", value=value).drop_nulls()
        if told.is_empty():
            raise ConfigError(f"stratify: {folder} has no label that is yes, no or a class")
        highest = told.group_by("subject_id").agg(pl.col("value").max())
        found = found.join(highest, on="subject_id", how="left").select(
            "subject_id", stratum=pl.col("stratum") + "/" + pl.col("value").fill_null("")
        )
    return found


def latest_times(extract: Extract) -> pl.DataFrame:
    """`subject_id, time`: the last prediction time, or the last event of who has no sample."""
    last = pl.col("time").max()
    parts = [
        collect(extract.scan(shard).group_by("subject_id").agg(last), where=shard)
        for shard in extract.shards
    ]
    tasks = sorted((extract.path / "tasks").glob("*"))
    folders = [path for path in tasks if parquet_files(path)]
    samples = [extract.labels(path).select("subject_id", "prediction_time") for path in folders]
    if (own := extract.samples()) is not None:
        samples.append(own)
    events = pl.concat(parts)
    if not samples:
        return events
    predicted = pl.concat(samples).group_by("subject_id").agg(pl.col("prediction_time").max())
    both = events.join(predicted, on="subject_id", how="left")
    return both.select("subject_id", time=pl.coalesce("prediction_time", "time"))


def sites_of(extract: Extract, site: str | None, subjects: pl.DataFrame) -> pl.DataFrame:
    """`subject_id, site`, a row for each site of a subject."""
    declared = extract.metadata.get("site_id_columns") or []
    if site is None and len(declared) != 1:
        several = f"names several site_id_columns ({', '.join(declared)}); name one of them"
        raise ConfigError(
            f"site: dataset.json {several if declared else 'names no site_id_columns; name one'}, "
            "or a pattern of codes that say the site, such as UNIT//(.*)"
        )
    wanted = site or declared[0]
    parts = []
    for shard in extract.shards:
        if wanted in declared:
            rows = scan_file(extract.path / shard, where=shard)
            name = pl.col(wanted).cast(pl.String)
        else:
            rows = extract.scan(shard).filter(matches([wanted]))
            name = pl.coalesce(pl.col("code").str.extract(f"^(?:{wanted})$"), "code")
        said = rows.select("subject_id", site=name).drop_nulls().unique()
        parts.append(collect(said, where=shard))
    found = pl.concat(parts).join(subjects, on="subject_id", how="semi").unique()
    if found.is_empty():
        raise SchemaError(f"site: no event says a site by {wanted}; see metadata/codes.parquet")
    return found
