"""Images as small grey squares, a stack of them slice by slice."""

from clinical.cohort.columns import Ragged
from clinical.containers import Images as ImagesContainer
from clinical.errors import ConfigError
from clinical.extract.images import quiet, tell_what_is_missing
from clinical.modalities.contract import Counts, Frames, Statistics, nonzero
from clinical.modalities.decoding import Decoded, Recipe, Square, decode_all
from clinical.modalities.frequent import frequent_codes
from clinical.modalities.occurrences import (
    Array,
    OccurrencesReader,
    Seen,
    newest,
    write_entries,
    write_seen,
)

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

NAME = "images"
BLOCK_BYTES = 16 * 2**20
"""Of pixels that wait to be written, about."""


class Images:
    """The newest readable images of a sample.

    Args:
        size: Side of the stored square in pixels.
        square: How an oblong image becomes one: `stretch` fits both sides to it, so that parts of
            the body lie where they lie in other images; `pad` the longer side, and pads the other
            with black, so that shapes stay as they are.
        patch: Side of the patches that an objective hides; divides `size`.
        max_images: The newest images of a sample that are kept; a stack counts as one.
        slices: Of a stack (a CT series, a volume, a file of several frames) the most that are
            kept, spread evenly over it.
        channels: 1, or 3: each slice between its neighbours in the whole stack (2.5-D), which a
            single image repeats.
        window: Center and width in Hounsfield units under which CT is seen (in NIfTI, what has
            values of -500 or below); null takes the one that each file has.
            The default, from -1,000 to 400, keeps lung and soft tissue apart.
        min_subjects: Train subjects who must have an image of a code before it is a view.
        weights: Of the encoder; the data side has no use for it.
    """

    shaping: ClassVar[frozenset[str]] = frozenset({"size", "square", "patch", "channels"})

    def __init__(
        self,
        *,
        size: int = 64,
        square: Square = "stretch",
        patch: int = 8,
        max_images: int = 2,
        slices: int = 16,
        channels: Literal[1, 3] = 1,
        window: tuple[float, float] | None = (-300.0, 1400.0),
        min_subjects: int = 5,
        weights: Path | None = None,
    ) -> None:
        if min(size, patch, max_images) < 1 or size % patch:
            raise ConfigError(
                f"images: size {size} and patch {patch} don't fit; size must be a multiple of "
                "patch, and max_images at least 1"
            )
        if min(slices, min_subjects) < 1 or channels not in (1, 3):
            raise ConfigError(
                f"images: slices {slices} and min_subjects {min_subjects} must be at least 1, "
                f"and channels {channels} 1 or 3"
            )
        if square not in get_args(Square):
            raise ConfigError(f"images: square {square} should be {' or '.join(get_args(Square))}")
        if window is not None and (len(window) != 2 or not 0 < window[1] < np.inf):
            raise ConfigError(
                "images: window must be [center, width] in Hounsfield units with a width above 0, "
                "such as [-600, 1500] for lungs, or null"
            )
        self.size = size
        self.square = square
        self.patch = patch
        self.max_images = max_images
        self.slices = slices
        self.channels = channels
        self.window = window
        self.min_subjects = min_subjects

    def fit(
        self,
        shards: Frames,
        *,
        seed: int,
        codes: pl.DataFrame | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> Statistics:
        """Which views there are; pixels are stored as they are. Nothing else is used."""
        return {
            "size": self.size,
            "square": self.square,
            "patch": self.patch,
            "slices": self.slices,
            "channels": self.channels,
            "window": None if self.window is None else list(self.window),
            "views": frequent_codes(map(with_path, shards()), min_subjects=self.min_subjects),
        }

    def sizes(self, statistics: Statistics) -> dict[str, int]:
        """`size` and `patch` in pixels, `channels`, and `views`: their rows, 0 included."""
        plain = {name: statistics[name] for name in ("size", "patch", "channels")}
        return {**plain, "views": len(statistics["views"]) + 1}

    def variables(self, statistics: Statistics) -> Sequence[str]:
        """None."""
        return ()

    def entries(self, statistics: Statistics) -> Sequence[str | None]:
        """Unknown, then the views."""
        return (None, *statistics["views"])

    def write(
        self,
        visible: pl.DataFrame,
        n_samples: int,
        statistics: Statistics,
        folder: Path,
        *,
        read_image: Callable[[str], Path],
        workers: int = 1,
        codes: pl.DataFrame | None = None,
    ) -> Counts:
        """Write one shard; an unreadable image gives way to the next older one.

        Returns:
            Of distinct images `without_path`, `missing`, `undecodable`, `too_large`,
            `unsupported`, `left_out_slices` and `left_out_series`; `left_out_images`, older than
            the newest of their sample, once a sample.
        """
        pathed = with_path(visible)
        tell_what_is_missing(pathed["image_path"].unique().to_list())
        recipe = recipe_of(statistics)
        rows = {code: row for row, code in enumerate(statistics["views"], start=1)}
        reading = _Reading(pathed, self.max_images, recipe, rows)
        with quiet():
            write_entries(reading.blocks(read_image, workers), folder / NAME)
        kept = newest(reading.candidates, self.max_images)
        events = np.array(reading.events, dtype=np.int64)
        write_seen(kept, n_samples, events, folder / NAME)
        counts = {
            "without_path": visible["event"].n_unique() - pathed["event"].n_unique(),
            "left_out_images": reading.candidates.height - kept.height,
        }
        return nonzero({**counts, **reading.counts})

    def open(self, folders: Sequence[Path], statistics: Statistics) -> "ImagesReader":
        """Read back what `write` left in `folders`."""
        return ImagesReader(folders, statistics["size"] // statistics["patch"])


def recipe_of(statistics: Statistics) -> Recipe:
    """What is made of an image, by what `Images.fit` gave."""
    window = statistics["window"]
    return Recipe(
        size=statistics["size"],
        slices=statistics["slices"],
        channels=statistics["channels"],
        window=None if window is None else tuple(window),
        square=statistics["square"],
    )


def with_path(visible: pl.DataFrame) -> pl.DataFrame:
    """The events that name an image."""
    return visible.filter(pl.col("image_path").is_not_null())


class _Reading:
    """Decodes the images of a shard until every sample has its newest readable ones.

    Attributes:
        candidates: Visible rows without those of images that cannot be read.
        events: The decoded events, in the order in which they were given out.
        counts: What was met.
    """

    def __init__(
        self, candidates: pl.DataFrame, max_images: int, recipe: Recipe, views: Mapping[str, int]
    ) -> None:
        self.candidates = candidates
        self.events: list[int] = []
        self.counts: Counter[str] = Counter()
        self._max_images = max_images
        self._recipe = recipe
        self._views = views

    def blocks(
        self, read_image: Callable[[str], Path], workers: int
    ) -> Iterator[dict[str, NDArray[np.int64] | Ragged]]:
        """The columns of the images, some at a time: memory does not grow with the shard."""
        waiting: list[tuple[int, int, Decoded]] = []
        size = 0
        for event, view, image in self._decoded(read_image, workers):
            waiting.append((event, view, image))
            size += image.pixels.nbytes
            if size >= BLOCK_BYTES:
                yield _block(waiting, self._recipe)
                waiting, size = [], 0
        # The last one also tells the columns where there is no image at all.
        yield _block(waiting, self._recipe)

    def _decoded(
        self, read_image: Callable[[str], Path], workers: int
    ) -> Iterator[tuple[int, int, Decoded]]:
        while True:
            kept = newest(self.candidates, self._max_images)
            fresh = kept.filter(~pl.col("event").is_in(self.events)).unique("event").sort("event")
            if fresh.is_empty():
                return
            bad = []
            found = decode_all(fresh["image_path"], read_image, self._recipe, workers)
            events = fresh.select("event", "code").iter_rows()
            for (event, code), image in zip(events, found, strict=True):
                if isinstance(image, str):
                    self.counts[image] += 1
                    bad.append(event)
                else:
                    self.counts["left_out_slices"] += image.left_out_slices
                    self.counts["left_out_series"] += image.left_out_series
                    self.events.append(event)
                    yield event, self._views.get(code, 0), image
            self.candidates = self.candidates.filter(~pl.col("event").is_in(bad))


def _block(
    images: Sequence[tuple[int, int, Decoded]], recipe: Recipe
) -> dict[str, NDArray[np.int64] | Ragged]:
    """Columns of some images; the rows of `plane` count within each image's own pixels."""
    found = [image for _, _, image in images]
    nothing = Decoded(
        pixels=np.empty((0, recipe.size, recipe.size), np.uint8),
        plane=np.empty((0, recipe.channels), np.int64),
        position=np.empty(0, np.float32),
    )
    columns: dict[str, NDArray[np.int64] | Ragged] = {
        name: Ragged.from_lengths(
            np.concatenate([getattr(image, name) for image in (*found, nothing)]),
            np.array([len(getattr(image, name)) for image in found], dtype=np.int64),
        )
        for name in ("pixels", "plane", "position")
    }
    numbers = {
        "event": [event for event, _, _ in images],
        "view": [view for _, view, _ in images],
    }
    return columns | {name: np.array(each, dtype=np.int64) for name, each in numbers.items()}


class ImagesReader(OccurrencesReader):
    """Stored images of all shards; a stack is one entry and as many rows as it has slices."""

    def __init__(self, folders: Sequence[Path], patches: int) -> None:
        super().__init__(folders, NAME)
        self._patches = patches

    def container(self, seen: Seen, size: int, *, encoded: Array | None) -> ImagesContainer:
        """The slices of each image in order; without their pixels where they are encoded."""
        entries = self._stored.entries
        position = entries["position"].take_ragged(seen.entry)
        which = position.row
        if encoded is None:
            squares = entries["pixels"].take_ragged(seen.entry)
            plane = entries["plane"].take_ragged(seen.entry).values
            pixels = torch.from_numpy(squares.values[plane + squares.offsets[which, None]])
        else:
            pixels = torch.zeros(len(which), 1, 0, 0, dtype=torch.uint8)
        return ImagesContainer(
            pixels=pixels.float() / 255,
            observed=torch.ones((len(which), self._patches, self._patches), dtype=torch.bool),
            time_hours=torch.from_numpy(seen.hours[which]),
            view=torch.from_numpy(entries["view"].take(seen.entry)[which]),
            position=torch.from_numpy(position.values),
            sample=torch.from_numpy(seen.sample[which]),
            size=size,
            encoded=None if encoded is None else torch.from_numpy(encoded),
        )
