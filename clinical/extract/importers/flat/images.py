"""Images of a source, copied into the extract by the paths that its rows name."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.reasons import Reason

import os
import shutil
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

FOLDER = "images"


class ImageFolder:
    """Copies each image once; never anything from outside the source."""

    def __init__(self, source: Path, root: Path) -> None:
        self._source = Path(os.path.realpath(source))
        self._root = root
        self._seen: dict[str, Reason | None] = {}
        self.copied: dict[str, str] = {}
        """For each image in the extract where it is in the source."""

    def take(self, paths: pl.Series, why: np.ndarray) -> pl.Series:
        """Copy the images of the rows without a reason against them.

        Args:
            paths: [N] relative to the source, null where a row has none.
            why: [N] gets the reason where an image cannot be taken.

        Returns:
            [N] the paths relative to the extract.
        """
        for path in paths.filter(pl.Series(why == 0)).drop_nulls().unique(maintain_order=True):
            if path not in self._seen:
                self._seen[path] = self._copy(path)
        for reason in (Reason.OUTSIDE, Reason.NO_IMAGE):
            bad = [path for path, found in self._seen.items() if found is reason]
            why[(paths.is_in(bad).fill_null(False).to_numpy()) & (why == 0)] = reason
        return paths.map_elements(_target, return_dtype=pl.String)

    def _copy(self, path: str) -> Reason | None:
        if "\0" in path or Path(path).is_absolute() or ".." in Path(path).parts:
            return Reason.OUTSIDE
        # realpath, as Path.resolve raises on a loop of links in Python 3.11.
        origin = Path(os.path.realpath(self._source / path))
        if not origin.is_relative_to(self._source):
            return Reason.OUTSIDE
        try:
            if not origin.is_file():
                return Reason.NO_IMAGE
            image = origin.open("rb")
        except OSError:  # a cell that is too long for a name, or a file that nobody may read
            return Reason.NO_IMAGE
        with image:
            self._take(image, path, origin)
        return None

    def _take(self, image: IO[bytes], path: str, origin: Path) -> None:
        name, own = _target(path), origin.relative_to(self._source).as_posix()
        if self.copied.setdefault(name, own) != own:
            raise SchemaError(
                f"images: a file of {FOLDER}/ is beside that folder in the source, too; "
                "give one of them another name"
            )
        target = self._root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as copy:
                shutil.copyfileobj(image, copy)
        except OSError as error:
            # Not with its name, which is a cell.
            raise SchemaError(f"images: one cannot be copied ({error.strerror})") from None


def _target(path: str) -> str:
    """Where an image of the source goes in the extract."""
    path = Path(path).as_posix()
    return path if path.startswith(f"{FOLDER}/") else f"{FOLDER}/{path}"
