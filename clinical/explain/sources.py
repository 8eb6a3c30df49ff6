"""The real notes and images behind the rows of a batch, as the extract has them."""

from clinical.cohort.store import Store
from clinical.extract.schema import Extract
from clinical.extract.tables import EVENTS
from clinical.modalities.decoding import Pixels, Recipe, read_slices
from clinical.modalities.images import recipe_of
from clinical.modalities.occurrences import Occurrences

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

REAL = ("time", "code", "text_value", "image_path")
OWN = {
    **dict.fromkeys(("row", "number", "part"), pl.Int64()),
    "file": pl.String(),
    "file_row": pl.Int64(),
}


@dataclass(frozen=True)
class Picture:
    """A real image, read anew whenever it is asked for.

    Attributes:
        extract: that it is in.
        path: of it there.
        recipe: how it was prepared.
    """

    extract: Extract = field(repr=False)
    path: str = field(repr=False)
    recipe: Recipe

    def slices(self) -> list[Pixels]:
        """Each slice that is kept of it, [H, W] in grey; none if it can no longer be read."""
        return read_slices(self.path, self.extract.image, self.recipe)


def pictures_of(
    extract: Extract, store: Store, images: pl.DataFrame
) -> dict[tuple[int, int], Picture]:
    """(row, number) -> the image, for lines that `real_events` gives of images."""
    if images.is_empty():
        return {}
    recipe = recipe_of(store.fitted.statistics["images"])
    paths = images.select("row", "number", "image_path").unique().iter_rows()
    return {(row, number): Picture(extract, path, recipe) for row, number, path in paths}


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
        first), part (chunk of the note or slice of the image, from 0), file and file_row (where
        the event stands in the extract), and time, code, text_value, image_path of the event.
    """
    seen = Occurrences([folder / modality for folder in store.shards])
    found = seen.seen(rows)
    if modality == "images":
        slices = seen.entries["position"].take_ragged(found.entry)
        which, part = slices.row, np.arange(len(slices.values)) - slices.offsets[slices.row]
    else:
        which, part = np.arange(len(found.entry)), seen.entries["chunk"].take(found.entry)
    sample, entry = found.sample[which], found.entry[which]
    subject = store.samples["subject_id"].to_numpy()[rows][sample]
    lines = pl.DataFrame(
        {
            "line": np.arange(len(entry)),
            "row": rows[sample],
            "subject_id": subject,
            "file_row": seen.entries["event"].take(entry).astype(np.int64),
            "part": part.astype(np.int64),
        }
    ).with_columns(number=pl.col("file_row").rle_id().over("row").cast(pl.Int64))
    where = extract.subjects().filter(pl.col("subject_id").is_in(subject.tolist()))
    parts = [no_events().with_columns(line=pl.lit(0, pl.Int64))]
    where = where.rename({"shard": "file"})
    for (file,), of in lines.join(where, on="subject_id").group_by("file"):
        events = extract.read_checked(str(file))[of["file_row"].to_numpy()]
        assert events["subject_id"].equals(of["subject_id"]), "an event is somebody else's"
        parts.append(_real(of, events))
    return pl.concat(parts).sort("line").drop("line")


def no_events() -> pl.DataFrame:
    """The columns of `real_events`, for a modality that is not configured."""
    own = pl.DataFrame(schema=OWN)
    return pl.concat([own, EVENTS.empty().select(REAL)], how="horizontal")


def _real(lines: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The lines beside the events that they are about."""
    own = [lines.select(*OWN), events.select(REAL), lines.select("line")]
    return pl.concat(own, how="horizontal")
