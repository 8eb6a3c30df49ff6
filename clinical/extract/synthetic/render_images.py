"""The infiltrate as an opacity in a drawn chest X-ray.

Nothing but the opacity follows the reading. Position, size of chest and heart, exposure and
contrast vary from film to film by more than the opacity changes the mean brightness.
"""

from clinical.extract.synthetic.causes import INFILTRATE, Floats
from clinical.extract.synthetic.stays import PREDICTION_AFTER, Integers, Stays

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Pixels = NDArray[np.float32]

SIZE = 96
CODE = "IMAGING//CHEST_XRAY"
# Films at once: large enough to be fast, small enough to stay in the processor's cache.
BATCH = 64
FOLLOW_UP = 0.15
# How far the follow-up film, after the prediction time, has gone the way of the outcome.
AFTERMATH = 2.0

_ROWS, _COLUMNS = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)


def render_images(rng: np.random.Generator, stays: Stays, root: Path, folder: str) -> pl.DataFrame:
    """Draw the X-rays of some stays as PNG files.

    Args:
        rng: The renderer's own generator.
        stays: Those with `has_image` get one within 48 h, and some a follow-up later on.
        root: The extract's folder.
        folder: Where the files go, relative to it.

    Returns:
        Columns `stay` (row number), `minute`, `code`, `image_path`.
    """
    stay, minute, readings = schedule(rng, stays)
    (root / folder).mkdir(parents=True)
    paths = [f"{folder}/{number}.png" for number in range(len(stay))]
    for start in range(0, len(stay), BATCH):
        films = draw_films(rng, readings[start : start + BATCH])
        for film, path in zip(films, paths[start : start + BATCH], strict=True):
            Image.fromarray(film, mode="L").save(root / path, compress_level=1)
    return pl.DataFrame({"stay": stay, "minute": minute, "image_path": paths}).with_columns(
        pl.lit(CODE).alias("code")
    )


def schedule(rng: np.random.Generator, stays: Stays) -> tuple[Integers, Integers, Floats]:
    """Which stays are pictured when, and the reading that each picture shows."""
    stay = np.flatnonzero(stays.has_image)
    minute = stays.admission[stay] + rng.integers(30, PREDICTION_AFTER, len(stay))
    later = stay[rng.random(len(stay)) < FOLLOW_UP]
    remaining = stays.end[later] - stays.prediction[later]
    fate = np.where(stays.died[later], AFTERMATH, -AFTERMATH)
    stay = np.concatenate([stay, later])
    minute = np.concatenate([minute, stays.end[later] - remaining // 2])
    readings = stays.readings[stay, INFILTRATE]
    readings[len(stay) - len(later) :] += fate
    return stay, minute, readings


def draw_films(rng: np.random.Generator, readings: Floats) -> NDArray[np.uint8]:
    """Chest X-rays, [B, SIZE, SIZE], for infiltrate readings, [B]."""
    n = len(readings)
    # One set of coordinates a film: shift, size and tilt of the chest.
    tilt = _vary(rng, n, 0.0, 0.04)
    scale = _vary(rng, n, 1.0, 0.05)
    x: Pixels = (_COLUMNS - _vary(rng, n, 0.0, 0.04) + tilt * _ROWS) / scale
    y: Pixels = (_ROWS - _vary(rng, n, 0.0, 0.04)) / scale
    width = _vary(rng, n, 0.27, 0.015)
    lungs = np.maximum(
        _ellipse(x + 0.40, y + 0.02, width, 0.62), _ellipse(x - 0.40, y + 0.02, width, 0.60)
    )
    heart = _ellipse(x - 0.12, y - 0.25, _vary(rng, n, 0.27, 0.04), 0.33)
    body = _ellipse(x, y - 0.5, 0.92, 1.45)
    spine = np.exp(-((x / 0.07) ** 2))
    ribs = _ribs(x, y, _vary(rng, n, 0.0, 0.5))
    air = lungs * (1 - 0.85 * heart)
    film = body * (0.62 + 0.11 * ribs + 0.12 * spine + 0.10 * heart) - 0.44 * air
    film = (film + _opacity(rng, readings, x, y) * air).clip(0.02, 1.2)
    # Exposure and contrast are the radiographer's.
    film = _vary(rng, n, 0.80, 0.06) * film ** np.exp(_vary(rng, n, 0.0, 0.10)) + _vary(
        rng, n, 0.06, 0.02
    )
    film += rng.normal(0.0, 0.02, film.shape).astype(np.float32)
    pixels: NDArray[np.uint8] = (film * 255).clip(0, 255).astype(np.uint8)
    return pixels


def _opacity(rng: np.random.Generator, readings: Floats, x: Pixels, y: Pixels) -> Pixels:
    """Patchy consolidation somewhere in the lungs: the larger the reading, the wider and denser."""
    n = len(readings)
    amount = (1 / (1 + np.exp(-0.8 * readings))).astype(np.float32)[:, None, None]
    # In the left lung (right in the film) above the heart, which would hide it.
    is_left = rng.random((n, 1, 1)) < 0.5
    center_x = np.where(is_left, 0.43, -0.42).astype(np.float32) + _vary(rng, n, 0.0, 0.04)
    center_y = rng.uniform(-0.40, np.where(is_left, 0.10, 0.40)).astype(np.float32)
    stretch = np.exp(_vary(rng, n, 0.0, 0.15))
    radius = 0.10 + 0.24 * amount
    distance = ((x - center_x) / (radius * stretch)) ** 2 + (
        (y - center_y) * stretch / (1.2 * radius)
    ) ** 2
    patches = gaussian_filter(rng.standard_normal(x.shape).astype(np.float32), (0, 3, 3))
    density = 0.02 + 0.68 * amount
    shadow: Pixels = density * np.exp(-distance) * (1 + patches)
    return shadow


def _ribs(x: Pixels, y: Pixels, phase: Pixels) -> Pixels:
    """Bright arcs that fall away from the spine on both sides."""
    arcs: Pixels = np.exp(-5 * (1 + np.cos(24 * (y - 0.45 * x**2 + 0.10 * np.abs(x)) + phase)))
    return arcs * _ellipse(x, y - 0.05, 0.74, 0.80)


def _ellipse(x: Pixels, y: Pixels, width: Pixels | float, height: float) -> Pixels:
    """1 inside, 0 outside, with a soft edge."""
    inside: Pixels = 1 / (1 + np.exp(9 * ((x / width) ** 2 + (y / height) ** 2 - 1).clip(-6, 6)))
    return inside


def _vary(rng: np.random.Generator, n: int, center: float, spread: float) -> Pixels:
    """[n, 1, 1] normal values within two spreads of the center."""
    noise = rng.standard_normal((n, 1, 1)).clip(-2, 2)
    return (center + spread * noise).astype(np.float32)
