"""What enough subjects of train have in common to be learned, and to travel in a bundle."""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import polars as pl

Thing = TypeVar("Thing", bound=Hashable)


class Shared(Generic[Thing]):
    """Things that at least `min_subjects` subjects have.

    The subjects of a thing are kept until there are enough of them, and not counted by shard: that
    a subject lies in one shard is a property of a valid extract, and privacy should not hang on it.
    """

    def __init__(self, min_subjects: int) -> None:
        self._min_subjects = min_subjects
        # Tuples: most things are of one subject, and a set of one takes four times as much.
        self._few: dict[Thing, tuple[int, ...]] = {}
        self.enough: set[Thing] = set()

    def add(self, subject: int, things: Iterable[Thing]) -> None:
        """A subject has these."""
        for thing in things:
            if thing in self.enough:
                continue
            users = self._few.get(thing, ())
            if subject not in users:
                self._few[thing] = users = (*users, subject)
            if len(users) >= self._min_subjects:
                self.enough.add(thing)
                del self._few[thing]


def frequent_codes(frames: Iterable[pl.DataFrame], *, min_subjects: int) -> list[str]:
    """The codes of train events that at least `min_subjects` subjects have, ascending."""
    shared = Shared[str](min_subjects)
    for frame in frames:
        for subject, code in frame.select("subject", "code").unique().iter_rows():
            shared.add(subject, [code])
    return sorted(shared.enough)
