"""Whatever an `image_path` names, as a stack of grey slices."""

from clinical.extract.images.damage import refusing_damage
from clinical.extract.images.dicom import is_dicom, open_dicom
from clinical.extract.images.installing import Extra, imported, is_installed, tell
from clinical.extract.images.nifti import ENDINGS, is_nifti, open_nifti
from clinical.extract.images.pictures import open_picture
from clinical.extract.images.series import open_series
from clinical.extract.images.stack import Plane, Stack, UnreadableError, Window

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

_ENDINGS: dict[Extra, tuple[str, ...]] = {"dicom": (".dcm", ".dicom"), "nifti": ENDINGS}
_LIBRARIES = ("PIL", "pydicom", "nibabel")


def open_stack(
    name: str,
    resolve: Callable[[str], Path],
    *,
    side: int | None = None,
    window: Window | None = None,
) -> Stack:
    """Open an image by what it is, not by what its name says; nothing is decoded yet.

    Args:
        name: A file, or a folder with the DICOM files of a series.
        resolve: From a name in the extract to its file; refuses what leads out of it.
        side: Pixels of the square that will be made of it; for JPEG alone.
        window: Center and width of CT, in Hounsfield units; None for that of the file.

    Raises:
        UnreadableError: Here or while decoding, for whatever is wrong with the file.
    """
    path = resolve(name)
    if not name or path == resolve(""):  # the extract itself is no series
        raise UnreadableError("missing")
    with refusing_damage():
        kind = _kind(path)
    if kind != "picture":
        imported(kind)  # out here, as a broken library is no damage of a file
    with refusing_damage():
        if path.is_dir():
            stack = open_series(name, resolve, window=window)
        elif kind == "nifti":
            stack = open_nifti(path, window=window)
        elif kind == "dicom":
            stack = open_dicom(path, window=window)
        else:
            stack = open_picture(path, side=side)

    def planes(numbers: Sequence[int]) -> Iterator[Plane]:
        with refusing_damage():
            yield from stack.planes(numbers)

    return replace(stack, planes=planes)


def _kind(path: Path) -> Extra | Literal["picture"]:
    if path.is_dir():
        return "dicom"
    if not path.is_file():
        raise UnreadableError("missing")
    if path.name.lower().endswith(ENDINGS):
        return "nifti"
    if is_dicom(path):
        return "dicom"
    return "nifti" if is_nifti(path) else "picture"


def tell_what_is_missing(names: Sequence[str]) -> None:
    """Say before the reading begins which libraries the names of the files ask for."""
    for need, endings in _ENDINGS.items():
        if not is_installed(need) and any(name.lower().endswith(endings) for name in names):
            tell(need)


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing from the libraries about files that are slightly damaged and read all the same.

    What they would say may quote a patient's header. Enter it once around all threads: filters
    and levels belong to the process.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "nibabel.global")]
    levels = [found.level for found in loggers]
    with warnings.catch_warnings():
        for library in _LIBRARIES:
            warnings.filterwarnings("ignore", module=rf"{library}\.")
        for found in loggers:
            found.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for found, level in zip(loggers, levels, strict=True):
                found.setLevel(level)
