"""What train teaches about notes: their words, and records to learn phrases from."""

from clinical.modalities.contract import Frames
from clinical.modalities.frequent import Shared
from clinical.modalities.wordpiece import words

from collections import Counter
from collections.abc import Iterable

import numpy as np
import polars as pl


def frequent_words(frames: Iterable[pl.DataFrame], *, min_subjects: int) -> dict[str, int]:
    """How often the train notes use each word that at least `min_subjects` subjects use."""
    counts: Counter[str] = Counter()
    shared = Shared[str](min_subjects)
    for frame in frames:
        notes = with_text(frame).unique("event").sort("event")
        for subject, text in notes.select("subject", "text_value").iter_rows():
            used = words(text)
            counts.update(used)
            shared.add(subject, used)
    return {word: counts[word] for word in sorted(shared.enough)}


def records(shards: Frames, *, most: int, seed: int) -> pl.DataFrame:
    """`text_value, subject, record`: those of a record are the notes of one sample.

    A note that several samples see belongs to the first of them. Where there are more than about
    `most` characters, records are drawn.
    """
    length = pl.col("text_value").str.len_chars().sum()
    n_characters = sum(
        with_text(frame).unique("event").select(length).item() or 0 for frame in shards()
    )
    rng = np.random.default_rng(seed)
    found = [
        pl.DataFrame(schema={"text_value": pl.String, "subject": pl.Int64, "record": pl.Int64})
    ]
    for number, frame in enumerate(shards()):
        notes = with_text(frame).unique("event", keep="first", maintain_order=True)
        sample = notes["sample"].to_numpy()
        is_drawn = rng.random(sample.max(initial=0) + 1) < most / max(n_characters, 1)
        record = pl.Series("record", sample + (number << 32), pl.Int64)
        own = notes.select("text_value", "subject").with_columns(record)
        found.append(own.filter(pl.Series(is_drawn[sample])))
    return pl.concat(found)


def with_text(visible: pl.DataFrame) -> pl.DataFrame:
    """The notes in which something is written."""
    return visible.filter(pl.col("text_value").str.contains(r"\S").fill_null(False))
