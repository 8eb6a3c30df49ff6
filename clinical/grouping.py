"""Groups of an extract's samples, to judge scores by: age, facts without a time, the unit."""

from clinical.cohort.samples import KEYS, aligned_samples
from clinical.cohort.window import ages, visible
from clinical.errors import ConfigError, SchemaError
from clinical.evaluation.files import read_scores
from clinical.evaluation.patterns import PATTERN
from clinical.extract.schema import Extract
from clinical.places import check_file

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import meds
import pandas as pd
import polars as pl

AGE_YEARS = (18.0, 40.0, 65.0, 80.0)
LATEST = {"unit": "UNIT//.*"}
MOST_LEVELS = 30
SEVERAL = "several"


def groups(
    extract: str | Path,
    samples: pd.DataFrame | None = None,
    *,
    age_years: Sequence[float] = AGE_YEARS,
    latest: Mapping[str, str] = LATEST,
) -> pd.DataFrame:
    """Groups of patients to judge scores by: `evaluation.by(clinical.groups(extract))`.

    Args:
        extract: a MEDS folder.
        samples: subject_id and prediction_time, such as predictions; by default the extract's own.
        age_years: rising ages at which the next band begins.
        latest: name -> regular expression of whole codes, of which a sample's newest one up to the
            prediction time is its group.

    Returns:
        subject_id, prediction_time, a column for each kind of code without a time (GENDER//F is F
        of gender) with at most 30 values, one for each of `latest`, age in bands, and the column
        modalities where the samples have it: which of them were there.

    Raises:
        ConfigError: ages do not rise.
        SchemaError: nothing groups the samples, or there are none.
    """
    if list(age_years) != sorted(set(age_years)):
        raise ConfigError("age_years: give rising ages, each once")
    opened = Extract.open(extract)
    chosen = _samples(opened, samples)
    found: list[pl.DataFrame] = []
    for shard in opened.shards:
        events = opened.read_checked(shard).with_row_index("event")
        own = chosen.join(events.select("subject_id").unique(), on="subject_id", how="semi")
        if own.height:
            found += _of_shard(events, own, latest)
    long = pl.concat(found) if found else pl.DataFrame()
    table = chosen.to_pandas()
    for name, values in _columns(long, latest).items():
        table[name] = table["sample"].map(values).astype("string")
    if samples is not None and PATTERN in samples:
        pattern = samples.drop_duplicates(KEYS).set_index(KEYS)[PATTERN]
        table[PATTERN] = pattern.reindex(pd.MultiIndex.from_frame(table[KEYS])).array
    table["age"] = _bands(table["sample"].map(_ages(long)), age_years)
    table = table.drop(columns="sample")
    kept = [name for name in table if name in KEYS or table[name].notna().any()]
    if len(kept) == len(KEYS):
        raise SchemaError(
            "groups: nothing of the extract groups its samples; it has neither births, nor static "
            f"codes such as GENDER//F, nor codes like {', '.join(latest.values())}"
        )
    return table[kept]


def read_groups(source: Path, predictions: Path) -> pd.DataFrame:
    """Groups from a Parquet file of them, or from an extract for the samples of predictions.

    Raises:
        ConfigError: there is no such file or folder.
        SchemaError: as for `groups`; or the file is no Parquet file.
    """
    if source.is_dir():
        return groups(source, read_scores(predictions))
    check_file(source, what="groups")
    try:
        return pd.read_parquet(source)
    except (OSError, ValueError) as error:
        raise SchemaError(f"groups: {source} is not readable Parquet; write it again") from error


def _samples(extract: Extract, samples: pd.DataFrame | None) -> pl.DataFrame:
    """`sample, subject_id, prediction_time`, each once."""
    own = extract.samples() if samples is None else None
    if samples is not None:
        own = aligned_samples(pl.from_pandas(samples[KEYS].drop_duplicates(ignore_index=True)))
    if own is None:
        raise SchemaError(
            "samples.parquet: there is none; give samples, such as the predictions to be judged"
        )
    return own.select(KEYS).unique(maintain_order=True).with_row_index("sample")


def _of_shard(
    events: pl.DataFrame, samples: pl.DataFrame, latest: Mapping[str, str]
) -> list[pl.DataFrame]:
    """`sample, name, value`: facts as name//value, the newest code of each kind, and ages."""
    code = pl.col("code")
    is_fact = pl.col("time").is_null() & code.str.contains("//", literal=True)
    parts = [events.filter(is_fact).with_columns(modality=pl.lit("fact"))]
    for name, pattern in latest.items():
        named = events.filter(pl.col("time").is_not_null() & code.str.contains(f"^(?:{pattern})$"))
        parts.append(named.with_columns(modality=pl.lit(f"latest {name}")))
    seen = visible(pl.concat(parts), samples, dict.fromkeys(_kinds(latest)))
    facts = seen.filter(pl.col("modality") == "fact").select(
        "sample",
        name=code.str.split("//").list.first().str.to_lowercase(),
        value=code.str.splitn("//", 2).struct.field("field_1"),
    )
    found = [facts.unique(maintain_order=True)]
    for name in latest:
        own = seen.filter(pl.col("modality") == f"latest {name}").sort("sample", "event")
        newest = own.group_by("sample", maintain_order=True).last()
        value = pl.coalesce(code.str.splitn("//", 2).struct.field("field_1"), code)
        found.append(newest.select("sample", name=pl.lit(name), value=value))
    births = events.filter(code == meds.birth_code).select("subject_id", "time", "event")
    years = ages(births, samples)
    found.append(years.select("sample", name=pl.lit(""), value=pl.col("years").cast(pl.String)))
    return found


def _kinds(latest: Mapping[str, str]) -> list[str]:
    return ["fact", *(f"latest {name}" for name in latest)]


def _columns(long: pl.DataFrame, latest: Mapping[str, str]) -> dict[str, dict[int, str]]:
    """Name -> sample -> value; names with more values than a picture can show are left out."""
    columns: dict[str, dict[int, str]] = {}
    if long.is_empty():
        return columns
    for (name,), part in long.filter(pl.col("name") != "").group_by("name", maintain_order=True):
        one = part.group_by("sample", maintain_order=True).agg(
            pl.when(pl.len() == 1).then(pl.col("value").first()).otherwise(pl.lit(SEVERAL))
        )
        if one["value"].n_unique() <= MOST_LEVELS or name in latest:
            columns[str(name)] = dict(one.iter_rows())
    return columns


def _ages(long: pl.DataFrame) -> dict[int, float]:
    """Sample -> years."""
    if long.is_empty():
        return {}
    own = long.filter(pl.col("name") == "").select("sample", pl.col("value").cast(pl.Float64))
    return dict(own.iter_rows())


def _bands(years: pd.Series, edges: Sequence[float]) -> pd.Series:
    """Years in bands, each from its edge up to the next."""
    names = [f"{low:g} to under {high:g}" for low, high in pairwise(edges)]
    if edges:
        names = [f"under {edges[0]:g}", *names, f"{edges[-1]:g} and over"]
    else:
        names = ["any"]
    limits = [float("-inf"), *edges, float("inf")]
    return pd.cut(years.astype(float), limits, right=False, labels=names)
