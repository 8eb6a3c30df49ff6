"""What every kind of image file is read as: a stack of grey slices, decoded one at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Reason = Literal["missing", "undecodable", "too_large", "unsupported"]
Window = tuple[float, float]
"""Center and width, in the unit of the values."""

Plane = NDArray[Any]
"""[height, width] of one slice: uint8 is grey as it shall be; deeper values have no range known."""

MOST_VALUES = 2**30
"""Of a whole stack, such as 4,096 slices of 512 x 512: more is no picture but an attack."""


class UnreadableError(Exception):
    """A file that cannot be read: counted by its reason, never shown to a user."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Stack:
    """An opened image of one or more slices.

    Attributes:
        depth: How many slices, at least 1.
        n_pixels: Of all slices together, as the header says.
        planes: Decodes the slices of the given ascending numbers, one after the other.
        left_out_series: Further series in the same folder.
    """

    depth: int
    n_pixels: int
    planes: Callable[[Sequence[int]], Iterator[Plane]]
    left_out_series: int = 0


def check_size(height: int, width: int, *, depth: int = 1) -> None:
    """Refuse, before anything is decoded, what would take the memory of an attack.

    Raises:
        UnreadableError: A slice has more pixels than Pillow would read, or the stack more than
            `MOST_VALUES`; or there is no pixel at all.
    """
    if min(height, width, depth) < 1:
        raise UnreadableError("undecodable")
    most = 2 * (Image.MAX_IMAGE_PIXELS or MOST_VALUES)
    if height * width > most or height * width * depth > MOST_VALUES:
        raise UnreadableError("too_large")


def windowed(
    values: NDArray[Any], window: Window, *, function: str = "LINEAR_EXACT"
) -> NDArray[np.float64]:
    """Values as grey from 0 to 1 under a window (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    center, width = window
    values = np.asarray(values, dtype=np.float64)
    if function == "SIGMOID":
        # Beyond this the sigmoid is 0 or 1, and its exponential would overflow.
        exponent = (-4 * (values - center) / width).clip(-500, 500)
        return np.asarray(1 / (1 + np.exp(exponent)), dtype=np.float64)
    if function == "LINEAR":
        # The border at which the first value turns white; a width of 1 has no ramp at all.
        center, width = center - 0.5, max(width - 1, 1e-9)
    shade: NDArray[np.float64] = ((values - center) / width + 0.5).clip(0, 1)
    return shade


def to_eight_bits(shade: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Grey from 0 to 1 as 0 to 255; what is not a number is black."""
    return np.rint(np.nan_to_num(shade) * 255).astype(np.uint8)


def to_grey(planes: Sequence[Plane]) -> list[NDArray[np.uint8]]:
    """Slices in 8-bit grey.

    Deeper ones are stretched over the range that they have together: how many of the bits a
    scanner uses is not in every file. What is not finite is black.

    Raises:
        UnreadableError: None of the deeper values is finite.
    """
    deep = [plane for plane in planes if plane.dtype != np.uint8]
    if not deep:
        return list(planes)
    ranges = [
        (float(finite.min()), float(finite.max()))
        for finite in (plane[np.isfinite(plane)] for plane in deep)
        if finite.size
    ]
    if not ranges:
        raise UnreadableError("undecodable")
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return [plane if plane.dtype == np.uint8 else _stretched(plane, low, high) for plane in planes]


def _stretched(plane: Plane, low: float, high: float) -> NDArray[np.uint8]:
    if high == low:
        return np.zeros(plane.shape, dtype=np.uint8)
    values = np.where(np.isfinite(plane), plane, low).astype(np.float64)
    return to_eight_bits((values - low) / (high - low))
