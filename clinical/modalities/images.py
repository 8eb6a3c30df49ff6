"""Images as small grey squares."""

from clinical.containers import Images as ImagesContainer
from clinical.errors import ConfigError
from clinical.modalities.contract import Counts, Frames, Statistics, nonzero
from clinical.modalities.decoding import decode_all
from clinical.modalities.occurrences import (
    Array,
    OccurrencesReader,
    Seen,
    newest,
    write_occurrences,
)

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

NAME = "images"


class Images:
    """The newest readable images of a sample.

    Args:
        size: Side of the stored square in pixels; the longer side is fitted to it.
        patch: Side of the patches that an objective hides; divides `size`.
        max_images: The newest images of a sample that are kept.
        weights: Of the encoder; the data side has no use for it.
    """

    def __init__(
        self, *, size: int = 64, patch: int = 8, max_images: int = 2, weights: Path | None = None
    ) -> None:
        if min(size, patch, max_images) < 1 or size % patch:
            raise ConfigError(
                f"images: size {size} and patch {patch} don't fit; size must be a multiple of "
                "patch, and max_images at least 1"
            )
        self.size = size
        self.patch = patch
        self.max_images = max_images

    def fit(
        self,
        shards: Frames,
        *,
        seed: int,
        codes: pl.DataFrame | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> Statistics:
        """Nothing is learned: pixels are stored as they are. No argument is used."""
        return {"size": self.size, "patch": self.patch}

    def sizes(self, statistics: Statistics) -> dict[str, int]:
        """`size` and `patch` in pixels."""
        return {"size": statistics["size"], "patch": statistics["patch"]}

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
            Of distinct images `without_path`, `missing`, `undecodable`, `too_large`;
            `left_out_images`, older than the newest of their sample, once a sample.
        """
        candidates = visible.filter(pl.col("image_path").is_not_null())
        counts = {"without_path": visible["event"].n_unique() - candidates["event"].n_unique()}
        size, pixels = statistics["size"], dict[int, NDArray[np.uint8]]()
        while True:
            kept = newest(candidates, self.max_images)
            fresh = kept.filter(~pl.col("event").is_in(list(pixels))).unique("event").sort("event")
            if fresh.is_empty():
                break
            found = decode_all(fresh["image_path"].to_list(), read_image, size, workers)
            bad = []
            for event, outcome in zip(fresh["event"].to_list(), found, strict=True):
                if isinstance(outcome, str):
                    counts[outcome] = counts.get(outcome, 0) + 1
                    bad.append(event)
                else:
                    pixels[event] = outcome
            candidates = candidates.filter(~pl.col("event").is_in(bad))
        counts["left_out_images"] = candidates.height - kept.height
        events = sorted(pixels)
        stacked = np.array([pixels[event] for event in events], dtype=np.uint8)
        table = {"pixels": stacked.reshape(-1, size, size)}
        write_occurrences(kept, n_samples, table, np.array(events, dtype=np.int64), folder / NAME)
        return nonzero(counts)

    def open(self, folders: Sequence[Path], statistics: Statistics) -> "ImagesReader":
        """Read back what `write` left in `folders`."""
        return ImagesReader(folders, statistics["size"] // statistics["patch"])


class ImagesReader(OccurrencesReader):
    """Stored images of all shards."""

    def __init__(self, folders: Sequence[Path], patches: int) -> None:
        super().__init__(folders, NAME)
        self._patches = patches

    def container(self, seen: Seen, size: int, *, encoded: Array | None) -> ImagesContainer:
        """Images; without their pixels where they are encoded."""
        rows = len(seen.entry)
        if encoded is None:
            pixels = torch.from_numpy(self._stored.entries["pixels"].take(seen.entry))
        else:
            pixels = torch.zeros(rows, 0, 0, dtype=torch.uint8)
        grid = (rows, self._patches, self._patches)
        return ImagesContainer(
            pixels=pixels[:, None].float() / 255,
            observed=torch.ones(grid, dtype=torch.bool),
            time_hours=torch.from_numpy(seen.hours),
            view=torch.zeros(rows, dtype=torch.int64),
            position=torch.full((rows,), 0.5),
            sample=torch.from_numpy(seen.sample),
            size=size,
            encoded=None if encoded is None else torch.from_numpy(encoded),
        )
