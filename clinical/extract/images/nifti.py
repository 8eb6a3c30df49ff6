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

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ENDINGS = (".nii", ".nii.gz")


def open_nifti(path: Path, *, window: Window | None = None) -> Stack:
    """A volume, of several in a row the first.

    Slices are turned as radiologists look at them, and as DICOM has them: the patient's right on
    the left, the front on top.

    Args:
        path: Ends with one of `ENDINGS`.
        window: In the unit of the values, since the file does not say what they are: Hounsfield
            units where it is a CT. None for the range that the file names, if it does.

    Raises:
        UnreadableError: nibabel is missing, or the volume is far too large or in colour.
    """
    if not is_installed("nifti"):
        tell("nifti")
        raise UnreadableError("unsupported")
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        # Kept open: slices of a compressed file are then read on from each other.
        image: Any = nibabel.load(path, keep_file_open=True)
    except (ImageFileError, HeaderDataError, WrapStructError):
        raise UnreadableError("undecodable") from None
    shape = (*image.shape, 1)[:3] if len(image.shape) == 2 else image.shape[:3]
    if len(shape) < 3 or image.get_data_dtype().kind not in "iuf":
        raise UnreadableError("undecodable")
    # [3, 2] the world's axis (right, front, head) of each own axis, and 1 or -1 for its direction.
    axes = nibabel.io_orientation(image.affine)
    if not np.isfinite(axes).all():
        raise UnreadableError("undecodable")
    own = [int(np.flatnonzero(axes[:, 0] == world)[0]) for world in range(3)]
    forward = [axes[axis, 1] > 0 for axis in own]
    check_size(shape[own[1]], shape[own[0]], depth=shape[own[2]])
    low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
    if window is None and high > low:
        window = ((low + high) / 2, high - low)

    def planes(numbers: Sequence[int]) -> Iterator[Plane]:
        for number in numbers:
            at: list[Any] = [slice(None)] * 3 + [0] * (len(image.shape) - 3)
            at[own[2]] = number if forward[2] else shape[own[2]] - 1 - number
            values = np.asarray(image.dataobj[tuple(at[: len(image.shape)])])
            values = values if own[1] < own[0] else values.T  # [front, right]
            values = values[:: -1 if forward[1] else 1, :: -1 if forward[0] else 1]
            yield values if window is None else to_eight_bits(windowed(values, window))

    return Stack(shape[own[2]], planes)
