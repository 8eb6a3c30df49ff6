"""The infiltrate as a nodule in a small CT of the chest, written as a DICOM series.

Nothing but the size of the nodule follows the reading. Where it lies, the size of the chest and the
noise vary from scan to scan.
"""

from clinical.extract.synthetic.causes import Floats
from clinical.extract.synthetic.render_images import schedule
from clinical.extract.synthetic.stays import Stays

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

Volume = NDArray[np.float32]

CODE = "IMAGING//CHEST_CT"
SLICES, SIZE = 12, 96
SPACING, THICKNESS = 4.0, 12.0  # millimetres in and between the slices
# Hounsfield units.
AIR, LUNG, TISSUE = -1000.0, -850.0, 40.0
NOISE, TEXTURE = 20.0, 30.0

_HALF = SPACING * SIZE / 2
_Z, _Y, _X = (
    grid.astype(np.float32)
    for grid in np.meshgrid(
        (np.arange(SLICES) - (SLICES - 1) / 2) * THICKNESS / _HALF,
        np.linspace(-1, 1, SIZE),
        np.linspace(-1, 1, SIZE),
        indexing="ij",
    )
)


def render_ct(rng: np.random.Generator, stays: Stays, root: Path, folder: str) -> pl.DataFrame:
    """Write a CT for each X-ray that these stays would have: a folder of one file a slice.

    Args:
        rng: The renderer's own generator.
        stays: Those with `has_image` get one within 48 h, and some a follow-up later on.
        root: The extract's folder.
        folder: Where the series go, relative to it.

    Returns:
        Columns `stay` (row number), `minute`, `code`, `image_path`.
    """
    stay, minute, readings = schedule(rng, stays)
    paths = [f"{folder}/{number}" for number in range(len(stay))]
    for path, reading in zip(paths, readings, strict=True):
        volume = add_nodule(rng, draw_chest(rng), reading)
        (root / path).mkdir(parents=True)
        write_series(volume, root / path, series=f"2.25.{rng.integers(2**62)}")
    schema = {"stay": pl.Int64, "minute": pl.Int64, "image_path": pl.String}
    rows = pl.DataFrame({"stay": stay, "minute": minute, "image_path": paths}, schema=schema)
    return rows.with_columns(pl.lit(CODE).alias("code"))


def draw_chest(rng: np.random.Generator) -> Volume:
    """A chest without a nodule, [SLICES, SIZE, SIZE] in Hounsfield units, feet first."""
    scale = 1 + 0.03 * rng.standard_normal()
    x, y = _X / scale, _Y / scale
    body = _inside((x / 0.92) ** 2 + (y / 0.75) ** 2)
    lungs = np.maximum(*(_inside(_lung(x, y, side)) for side in (-1, 1)))
    heart = _inside(((x - 0.12) / 0.26) ** 2 + ((y + 0.15) / 0.3) ** 2 + (_Z / 0.4) ** 2)
    lungs = lungs * (1 - heart)
    chest = AIR + (TISSUE - AIR) * body + (LUNG - TISSUE) * lungs
    texture = gaussian_filter(rng.standard_normal(chest.shape), (0, 2, 2))
    texture /= texture.std()
    noisy: Volume = (
        chest + TEXTURE * texture * lungs + NOISE * rng.standard_normal(chest.shape)
    ).astype(np.float32)
    return noisy


def add_nodule(rng: np.random.Generator, chest: Volume, reading: float) -> Volume:
    """A solid ball in either lung, away from its border: the larger the reading, the wider."""
    radius = 0.07 + 0.15 / (1 + np.exp(-0.8 * reading))
    side = -1 if rng.random() < 0.5 else 1
    x = 0.46 * side + rng.uniform(-0.02, 0.02)
    y, z = rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.15)
    distance = ((_X - x) ** 2 + (_Y - y) ** 2 + (_Z - z) ** 2) / radius**2
    ball = _inside(distance)
    with_nodule: Volume = (chest + (TISSUE - chest) * ball).astype(np.float32)
    return with_nodule


def write_series(volume: Floats | Volume, folder: Path, *, series: str) -> None:
    """One DICOM file a slice, named by its number; they name nobody.

    Args:
        volume: [slices, rows, columns] in Hounsfield units, feet first.
        folder: An empty one.
        series: UID of the series; those of the slices lie below it.
    """
    stored = np.rint(volume).clip(-1024, 3071).astype(np.int16) + 1024
    for number, values in enumerate(stored.astype("<u2"), start=1):
        ds = _slice(f"{series}.{number}", series, number)
        ds.Rows, ds.Columns = values.shape
        ds.PixelData = values.tobytes()
        ds.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)


def _slice(name: str, series: str, number: int) -> "FileDataset":
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    uid = UID(name)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, uid
    ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = series, "CT", number
    ds.ImagePositionPatient = [-_HALF, -_HALF, (number - 1) * THICKNESS]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [SPACING, SPACING], THICKNESS
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = -600, 1500
    return ds


def _lung(x: Volume, y: Volume, side: int) -> Volume:
    return ((x - 0.44 * side) / 0.34) ** 2 + (y / 0.56) ** 2


def _inside(distance: Volume) -> Volume:
    """1 below 1, 0 above, with a soft edge."""
    inside: Volume = 1 / (1 + np.exp(20 * (distance - 1).clip(-4, 4)))
    return inside
