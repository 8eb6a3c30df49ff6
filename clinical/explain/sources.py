"""The real notes and images behind the rows of a batch, as the extract has them."""

from clinical.cohort.store import Store
from clinical.extract.schema import Extract
from clinical.extract.tables import EVENTS
from clinical.modalities.occurrences import Occurrences

import numpy as np
import polars as pl
from numpy.typing import NDArray

REAL = ("time", "code", "text_value", "image_path")


def real_events(
    extract: Extract, store: Store, rows: NDArray[np.int64], modality: str
) -> pl.DataFrame:
    """What samples of a store see of notes or images.

    Args:
        extract: that the store was prepared from.
        store: of the samples.
        rows: [N] of the store, each once.
        modality: "notes" or "images", which are stored once and referred to.

    Returns:
        One line for each row that a batch of the sample alone has of the modality, in its order:
        row (of the store), number (of the note or image among the sample's, from 0, oldest
        first), and time, code, text_value, image_path of the event.
    """
    seen = Occurrences([folder / modality for folder in store.shards])
    found = seen.seen(rows)
    subject = store.samples["subject_id"].to_numpy()[rows][found.sample]
    lines = pl.DataFrame(
        {
            "line": np.arange(len(found.entry)),
            "row": rows[found.sample],
            "subject_id": subject,
            "event": seen.entries["event"].take(found.entry).astype(np.int64),
        }
    ).with_columns(number=pl.col("event").rle_id().over("row").cast(pl.Int64))
    where = extract.subjects().filter(pl.col("subject_id").is_in(subject.tolist()))
    parts = [_real(lines.clear(), EVENTS.empty())]
    for (shard,), of in lines.join(where, on="subject_id").group_by("shard"):
        events = extract.read_checked(str(shard))[of["event"].to_numpy()]
        assert events["subject_id"].equals(of["subject_id"]), "an event is somebody else's"
        parts.append(_real(of, events))
    return pl.concat(parts).sort("line").drop("line")


def no_events() -> pl.DataFrame:
    """The columns of `real_events`, for a modality that is not configured."""
    own = pl.DataFrame(schema={"row": pl.Int64, "number": pl.Int64})
    return pl.concat([own, EVENTS.empty().select(REAL)], how="horizontal")


def _real(lines: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The lines beside the events that they are about."""
    own = lines.select("line", "row", "number")
    return pl.concat([own, events.select(REAL)], how="horizontal")
