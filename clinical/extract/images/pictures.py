"""PNG, JPEG and other plain picture files, by Pillow."""

from clinical.extract.images.stack import Plane, Stack, UnreadableError

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

# Without a list Pillow also tries formats that start other programs, such as EPS.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")


def open_picture(path: Path, *, side: int | None = None) -> Stack:
    """One grey picture; of several in a file, the first. Its header alone is read at once.

    Args:
        path: Of the file.
        side: Pixels that are asked for: a JPEG is decoded at a fraction of its size, as long as
            that is at least twice this.
    """

    def planes(numbers: Sequence[int]) -> Iterator[Plane]:
        for _ in numbers:
            yield _read(path, side)

    with _opened(path) as image:
        return Stack(1, image.width * image.height, planes)


def _read(path: Path, side: int | None) -> Plane:
    with _opened(path) as image:
        if side is not None:
            image.draft("L", (2 * side, 2 * side))
        is_deep = image.mode in ("I", "F") or image.mode.startswith("I;")
        is_plain = is_deep or image.mode == "L"
        return np.asarray(image if is_plain else image.convert("L"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except Image.DecompressionBombError:
        raise UnreadableError("too_large") from None
