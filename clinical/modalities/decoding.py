"""From an image file to a grey square."""

from clinical.extract.images import FORMATS

import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

# What Pillow lets through from its decoders on files that are cut or made up.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, TypeError, struct.error, zlib.error)


def decode_all(
    paths: Sequence[str], read_image: Callable[[str], Path], size: int, workers: int
) -> list[Pixels | str]:
    """Each image as [size, size] uint8, or why not: `missing`, `undecodable`, `too_large`."""

    def decode_one(path: str) -> Pixels | str:
        return decode(read_image(path), size)

    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        # Set once around all threads, as the filters belong to the process. Pillow warns of large
        # and of slightly damaged files that it reads all the same.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        return list(pool.map(decode_one, paths))


def decode(path: Path, size: int) -> Pixels | str:
    """One image; above the pixels at which Pillow suspects an attack it is too large."""
    if not path.is_file():
        return "missing"
    try:
        with Image.open(path, formats=FORMATS) as image:
            # JPEG decodes at a fraction of its size, as long as that is above what is asked.
            image.draft("L", (2 * size, 2 * size))
            return _square(_grey(image), size)
    except Image.DecompressionBombError:
        return "too_large"
    except BROKEN:
        return "undecodable"


def read_grey(path: Path) -> Pixels | None:
    """An image at its own size, [H, W] uint8, as grey as it is stored; None if it is unreadable."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return np.asarray(_grey(image), dtype=np.uint8)
    except (*BROKEN, Image.DecompressionBombError):
        return None


def placed(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Where an image lies in its stored square: left, upper, width and height in stored pixels."""
    scale = size / max(width, height)
    fitted = [max(round(side * scale), 1) for side in (width, height)]
    return (size - fitted[0]) // 2, (size - fitted[1]) // 2, fitted[0], fitted[1]


def _grey(image: Image.Image) -> Image.Image:
    """8-bit grey.

    Deeper images are stretched over their own range: how many of the bits a scanner uses is
    not in the file.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image.convert("L")
    deep = np.asarray(image, dtype=np.float64)
    low, high = float(deep.min()), float(deep.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise ValueError("pixels are not finite")
    grey = (deep - low) * (255 / (high - low)) if high > low else np.zeros_like(deep)
    return Image.fromarray(np.rint(grey).astype(np.uint8))


def _square(image: Image.Image, size: int) -> Pixels:
    """The longer side fitted to `size`, the shorter one padded with black on both sides."""
    left, upper, width, height = placed(*image.size, size)
    fitted = image.resize((width, height), Image.Resampling.BILINEAR)
    square = Image.new("L", (size, size))
    square.paste(fitted, (left, upper))
    return np.asarray(square, dtype=np.uint8)
