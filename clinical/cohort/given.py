"""A user's own edges, cut to what each sample may know."""

from clinical.cohort.window import visible

import polars as pl

_EDGES = "edges"


def known_edges(edges: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """The edges into each sample that were known at its prediction time.

    Args:
        edges: As `Extract.edges` gives them; a null time was always known.
        samples: `sample, subject_id, prediction_time`.

    Returns:
        `sample, subject_id, other_subject_id, other_prediction_time, weight`, sorted by sample and
        row of `edges`.
    """
    numbered = edges.rename({"prediction_time": "own_time"}).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("event"), pl.lit(_EDGES).alias("modality")
    )
    seen = visible(numbered, samples, {_EDGES: None})
    meant = pl.col("own_time").is_null() | (pl.col("own_time") == pl.col("prediction_time"))
    return (
        seen.join(samples.select("sample", "prediction_time"), on="sample")
        .filter(meant)
        .sort("sample", "event")
        .select("sample", "subject_id", "other_subject_id", "other_prediction_time", "weight")
    )
