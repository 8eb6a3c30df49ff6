"""What train teaches about notes: their words, their codes, and records to learn phrases from."""

from clinical.modalities.contract import Frames
from clinical.modalities.wordpiece import words

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import numpy as np
import polars as pl

Thing = TypeVar("Thing", bound=Hashable)


class Shared(Generic[Thing]):
    """Things that at least `min_subjects` subjects have.

    The subjects of a thing are kept until there are enough of them, and not counted by shard: that
    a subject lies in one shard is a property of a valid extract, and privacy should not hang on it.
    """

    def __init__(self, min_subjects: int) -> None:
        self._min_subjects = min_subjects
        self._few: dict[Thing, set[int]] = {}
        self.enough: set[Thing] = set()

    def add(self, subject: int, things: Iterable[Thing]) -> None:
        """A subject has these."""
        for thing in things:
            if thing in self.enough:
                continue
            users = self._few.setdefault(thing, set())
            users.add(subject)
            if len(users) >= self._min_subjects:
                self.enough.add(thing)
                del self._few[thing]


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


def frequent_codes(frames: Iterable[pl.DataFrame], *, min_subjects: int) -> list[str]:
    """The codes of train notes that at least `min_subjects` subjects have, ascending."""
    shared = Shared[str](min_subjects)
    for frame in frames:
        for subject, code in with_text(frame).select("subject", "code").unique().iter_rows():
            shared.add(subject, [code])
    return sorted(shared.enough)


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
