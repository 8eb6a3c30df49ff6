"""NIfTI volumes by nibabel, as axial slices from the feet to the head."""

from clinical.extract.images.installing import is_installed, tell
from clinical.extract.images.stack import (
    Plane,
    Stack,
    UnreadableError,
    Window,
    check_size,
    to_eight_bits,
    windowed,
)

import functools
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

ENDINGS = (".nii", ".nii.gz")

AIR = -500
"""Hounsfield units; no value of another kind of image is as far below 0."""

NIFTI_1, NIFTI_2 = 348, 540
"""Bytes of a header, with which it begins."""

MAGIC_1, MAGIC_2 = b"n+1\0", b"n+2\0\r\n\x1a\n"
"""How single files say that they are NIfTI 1, at byte 344, and 2, at byte 4."""

LARGEST_OFFSET = 16 * 2**20
"""Bytes before the voxels: more are no header, and would be unpacked to be passed over."""


def is_nifti(path: Path) -> bool:
    """Whether a file, compressed or not, begins like one, whatever its name."""
    try:
        with _opened(path) as file:
            content = file.read(NIFTI_1)
    except (EOFError, OSError, zlib.error):
        if not _is_gzip(path):
            raise
        return False
    return content[344:] == MAGIC_1 or content[4:12] == MAGIC_2


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _opened(path: Path) -> IO[bytes]:
    """The content, unpacked where it is compressed."""
    return cast(IO[bytes], gzip.open(path)) if _is_gzip(path) else path.open("rb")


def open_nifti(path: Path, *, window: Window | None = None) -> Stack:
    """A volume, of several in a row the first.

    Slices are turned as radiologists look at them, and as DICOM has them: the patient's right on
    the left, the front on top.

    Args:
        path: Of one file, compressed or not.
        window: Of CT, in Hounsfield units; None for the range that the file names. The file does
            not say what its values are: a CT is what has values of air, `AIR` or less, in the
            slices that are read. All else is shown in the range that the file names, or in its
            own.

    Raises:
        UnreadableError: nibabel is missing, or the volume is far too large or in colour.
    """
    if not is_installed("nifti"):
        tell("nifti")
        raise UnreadableError("unsupported")
    import nibabel
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.volumeutils import apply_read_scaling

    header = _read_header(path)
    shape = header.get_data_shape()
    # Beyond five dimensions are no pictures: CIFTI, which has the same ending.
    if not 2 <= len(shape) <= 5 or header.get_data_dtype().kind not in "iuf":
        raise UnreadableError("undecodable")
    shape = (*shape, 1)[:3]
    # [3, 2] the world's axis (right, front, head) of each own axis, and 1 or -1 for its direction.
    axes = nibabel.io_orientation(header.get_best_affine())
    if not np.isfinite(axes).all():
        raise UnreadableError("undecodable")
    own = [int(np.flatnonzero(axes[:, 0] == world)[0]) for world in range(3)]
    forward = [axes[axis, 1] > 0 for axis in own]
    check_size(shape[own[1]], shape[own[0]], depth=shape[own[2]])
    slope, inter = (
        plain if value is None else value
        for value, plain in zip(header.get_slope_inter(), (1.0, 0.0), strict=True)
    )
    # Of several volumes the first. One file: slices of a compressed one are then read on from each
    # other.
    spec = (shape, header.get_data_dtype(), header.get_data_offset(), slope, inter)
    proxy = ArrayProxy(_opened(path), spec, mmap=False)
    # Slices that lie across the file, or against it, would each begin at its start.
    is_across = own[2] != 2 or (_is_gzip(path) and not forward[2])
    whole = functools.cache(proxy.get_unscaled)

    def plane(number: int) -> Plane:
        at: list[Any] = [slice(None)] * 3
        at[own[2]] = number if forward[2] else shape[own[2]] - 1 - number
        if is_across:
            values = apply_read_scaling(whole()[tuple(at)], np.float64(slope), np.float64(inter))
        else:
            values = np.asarray(proxy[tuple(at)])
        values = values if own[1] < own[0] else values.T  # [front, right]
        return values[:: -1 if forward[1] else 1, :: -1 if forward[0] else 1]

    named = float(header["cal_min"]), float(header["cal_max"])

    def planes(numbers: Sequence[int]) -> Iterator[Plane]:
        values = [plane(number) for number in numbers]
        shown = _window(values, hounsfield=window, named=named)
        for found in values:
            if shown is None:
                yield found
            else:
                finite = np.where(np.isfinite(found), found, np.nan)
                yield to_eight_bits(windowed(finite, shown))

    return Stack(shape[own[2]], math.prod(shape), planes)


def _read_header(path: Path) -> Any:
    """Of NIfTI 1 or 2, without its extensions: they may be bombs, and CIFTI's is parsed as XML."""
    from nibabel import Nifti1Header, Nifti2Header

    with _opened(path) as file:
        content = file.read(NIFTI_2)
    is_second = NIFTI_2 in (int.from_bytes(content[:4], order) for order in ("little", "big"))
    kind: Any
    kind, size = (Nifti2Header, NIFTI_2) if is_second else (Nifti1Header, NIFTI_1)
    header = kind(content[:size])
    if not 0 <= header.get_data_offset() <= LARGEST_OFFSET:
        raise UnreadableError("undecodable")
    return header


def _window(
    planes: Sequence[Plane], *, hounsfield: Window | None, named: tuple[float, float]
) -> Window | None:
    """What to show of slices: of CT the window asked for, else the range that the file names.

    Else the range of almost all values, as a few of MR's are far above the rest. None where
    all are the same.
    """
    finite = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    if not finite.size:
        return None
    if hounsfield is not None and finite.min() <= AIR:
        return hounsfield
    low, high = named
    if not low < high < np.inf:
        low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    if low == high:  # such as of a mask, of which hardly a value is above 0
        low, high = float(finite.min()), float(finite.max())
    return ((low + high) / 2, high - low) if low < high else None
