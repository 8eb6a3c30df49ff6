"""Libraries that some kinds of files need, and what to tell who lacks them, once."""

import functools
import importlib
import importlib.util
import logging
from typing import Literal

logger = logging.getLogger(__name__)

Extra = Literal["dicom", "nifti"]
Need = Literal["dicom", "nifti", "dicom-compressed", "12-bit"]

_LIBRARY: dict[Extra, str] = {"dicom": "pydicom", "nifti": "nibabel"}
# All that is imported while a file is read.
_MODULES: dict[Extra, tuple[str, ...]] = {
    "dicom": ("pydicom.encaps", "pydicom.pixels"),
    "nifti": ("nibabel",),
}
_REMEDY: dict[Need, str] = {
    "dicom": "DICOM files need pydicom: pip install 'clinical[dicom]'",
    "nifti": "NIfTI files need nibabel: pip install 'clinical[nifti]'",
    "dicom-compressed": (
        "some DICOM files are compressed in a way that needs more than pydicom: "
        "pip install 'clinical[dicom,dicom-compressed]'"
    ),
    # Not an extra: its licence is the GPL, which is the user's choice to take.
    "12-bit": (
        "some DICOM files hold 12-bit JPEG: pip install pylibjpeg pylibjpeg-libjpeg (GPL), "
        "or have them converted"
    ),
}


def is_installed(need: Extra) -> bool:
    """Whether the library of an extra is there; it is not imported."""
    return importlib.util.find_spec(_LIBRARY[need]) is not None


def imported(need: Extra) -> None:
    """Import the library of an extra if it is there."""
    if is_installed(need):
        for module in _MODULES[need]:
            importlib.import_module(module)


@functools.cache
def tell(need: Need) -> None:
    """Log what to install; once a process, however many files need it."""
    remedy = "until then they count as unsupported, and what was prepared stays as it is"
    logger.warning("images: %s; %s", _REMEDY[need], remedy)
