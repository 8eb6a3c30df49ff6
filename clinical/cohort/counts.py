"""What a preparation met, as counts for the user's eyes."""

from clinical.config import RunConfig

from collections import Counter
from collections.abc import Iterable, Mapping

import polars as pl

Counts = dict[str, int]

NOTHING_VISIBLE = "nothing visible"
"""The reason of a sample without any input."""


def sum_counts(counts: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """The counts of all shards together, by modality."""
    total: dict[str, Counter[str]] = {}
    for shard in counts:
        for name, found in shard.items():
            total.setdefault(name, Counter()).update(found)
    return {name: dict(sorted(found.items())) for name, found in total.items()}


def describe(config: RunConfig, samples: pl.DataFrame) -> dict[str, Counts]:
    """Samples by split, by combination of present modalities, and labels by class."""
    names = list(config.modalities)
    parts = [pl.when(f"present.{name}").then(pl.lit(name)) for name in names]
    together = samples.select(pl.concat_str(parts, separator="+", ignore_nulls=True)).to_series()
    combinations = together.replace("", NOTHING_VISIBLE).value_counts(sort=True, name="n")
    splits = samples["split"].fill_null("no split").value_counts(sort=True, name="n")
    labels: Counts = {}
    for task in config.tasks:
        known = samples[f"label.{task}"].drop_nulls()
        labels[f"{task}: labelled"] = len(known)
        labels[f"{task}: positive"] = int((known == 1).sum())
    return {
        "samples": dict(splits.iter_rows()),
        "modalities": dict(combinations.iter_rows()),
        "labels": labels,
    }
