"""From an image file to grey squares."""

from clinical.extract.images import UnreadableError, open_stack, quiet, to_grey

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Square = Literal["pad", "stretch"]

AHEAD = 4
"""Images decoded but not yet taken, for each thread: what bounds the memory."""


@dataclass(frozen=True)
class Recipe:
    """What is made of an image.

    Attributes:
        size: Side of the squares in pixels.
        slices: Most slices of a stack, spread evenly over it.
        channels: 1, or 3 for each slice between its neighbours.
        window: Of CT, center and width in Hounsfield units; None for that of the file.
        square: How an oblong image becomes a square: `stretch` fits both sides to `size`, `pad`
            the longer one and pads the other with black on both sides.
    """

    size: int
    slices: int = 16
    channels: int = 1
    window: tuple[float, float] | None = None
    square: Square = "stretch"

    def placed(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Where an image lies in its stored square: left, upper, width, height in its pixels."""
        if self.square == "stretch":
            return 0, 0, self.size, self.size
        scale = self.size / max(width, height)
        fitted = [max(round(side * scale), 1) for side in (width, height)]
        return (self.size - fitted[0]) // 2, (self.size - fitted[1]) // 2, fitted[0], fitted[1]


@dataclass(frozen=True)
class Decoded:
    """The slices of one image that are kept, R of them; neighbours share their pixels.

    Attributes:
        pixels: [P, size, size] uint8, each slice that a row or its neighbours need, once.
        plane: [R, channels] int64, rows of `pixels`.
        position: [R] float32 from 0 to 1 in the stack; 0.5 for a single image.
        left_out_slices: Slices of the stack that are no row.
        left_out_series: Further series of the folder.
    """

    pixels: Pixels
    plane: NDArray[np.int64]
    position: NDArray[np.float32]
    left_out_slices: int = 0
    left_out_series: int = 0


def decode_all(
    names: Iterable[str], read_image: Callable[[str], Path], recipe: Recipe, workers: int
) -> Iterator[Decoded | str]:
    """Each image in the order given, or why not: `UnreadableError.reason`.

    Threads suffice, since Pillow and the other decoders let go of the interpreter.
    """
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        waiting: deque[Future[Decoded | str]] = deque()
        try:
            for name in names:
                waiting.append(pool.submit(decode, name, read_image, recipe))
                if len(waiting) >= AHEAD * max(workers, 1):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def decode(name: str, read_image: Callable[[str], Path], recipe: Recipe) -> Decoded | str:
    """One image, or why not."""
    try:
        stack = open_stack(name, read_image, side=recipe.size, window=recipe.window)
        rows, needed, plane = _chosen(stack.depth, recipe)
        pixels = _squares(stack.planes(needed.tolist()), recipe)
    except UnreadableError as error:
        return error.reason
    is_single = stack.depth == 1
    position = np.full(1, 0.5) if is_single else rows / (stack.depth - 1)
    return Decoded(
        pixels=pixels,
        plane=plane,
        position=position.astype(np.float32),
        left_out_slices=stack.depth - len(rows),
        left_out_series=stack.left_out_series,
    )


def read_slices(name: str, read_image: Callable[[str], Path], recipe: Recipe) -> list[Pixels]:
    """The slices that `decode` keeps of an image, as grey as there but [H, W] as they are.

    None of them if it cannot be read.
    """
    try:
        with quiet():
            stack = open_stack(name, read_image, window=recipe.window)
            _, needed, plane = _chosen(stack.depth, recipe)
            # All together, as deep ones share a range.
            grey = to_grey(list(stack.planes(needed.tolist())))
    except UnreadableError:
        return []
    return [grey[number] for number in plane[:, plane.shape[1] // 2]]


def _chosen(
    depth: int, recipe: Recipe
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The slices of a stack that become rows, all that these need, and which of them each needs."""
    rows = spread(depth, recipe.slices)
    aside = np.array([-1, 0, 1] if recipe.channels == 3 else [0])
    wanted = (rows[:, None] + aside).clip(0, depth - 1)
    needed, plane = np.unique(wanted, return_inverse=True)
    return rows, needed, plane.reshape(wanted.shape).astype(np.int64)


def spread(depth: int, n: int) -> NDArray[np.int64]:
    """Up to n of the numbers below `depth`, the middle of as many equal parts of a stack."""
    if depth <= n:
        return np.arange(depth)
    return ((np.arange(n) + 0.5) * depth / n).astype(np.int64)


def _squares(planes: Iterator[NDArray[np.generic]], recipe: Recipe) -> Pixels:
    """[P, size, size]; only deep slices wait for each other, as they share a range."""
    squares, waiting = dict[int, Pixels](), list[tuple[int, NDArray[np.generic]]]()
    for number, plane in enumerate(planes):
        if plane.dtype == np.uint8:
            squares[number] = _square(plane, recipe)
        else:
            waiting.append((number, plane))
    grey = to_grey([plane for _, plane in waiting])
    for (number, _), plane in zip(waiting, grey, strict=True):
        squares[number] = _square(plane, recipe)
    return np.stack([squares[number] for number in sorted(squares)])


def _square(plane: NDArray[np.generic], recipe: Recipe) -> Pixels:
    """The image at its place in a black square."""
    image = Image.fromarray(plane)
    left, upper, width, height = recipe.placed(*image.size)
    fitted = image.resize((width, height), Image.Resampling.BILINEAR)
    square = Image.new("L", (recipe.size, recipe.size))
    square.paste(fitted, (left, upper))
    return np.asarray(square, dtype=np.uint8)
