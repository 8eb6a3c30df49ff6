"""A folder of DICOM files as one stack: the slices of a CT or MR series, from its first to last."""

from clinical.extract.images.damage import refusing_damage
from clinical.extract.images.dicom import (
    check_frames,
    is_dicom,
    n_frames,
    read_frame,
    read_header,
)
from clinical.extract.images.stack import (
    Plane,
    Reason,
    Stack,
    UnreadableError,
    Window,
    check_size,
)

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

MOST_FILES = 10_000


def open_series(
    name: str, resolve: Callable[[str], Path], *, window: Window | None = None
) -> Stack:
    """The series with the most slices of those in a folder.

    Args:
        name: Of the folder, as `resolve` takes it.
        resolve: From a name in the extract to its file; refuses what leads out of it.
        window: Of CT, in Hounsfield units; None for the one that the files themselves have.

    Raises:
        UnreadableError: There is no slice, there are far too many, or pydicom is missing.
    """
    names = sorted(file.name for file in resolve(name).iterdir() if not file.name.startswith("."))
    if len(names) > MOST_FILES:
        raise UnreadableError("too_large")
    series = _series(resolve(str(Path(name) / child)) for child in names)
    # The first of equals, so that the choice does not hang on the names of the files.
    largest = max(sorted(series), key=lambda uid: sum(n_frames(h) for _, h in series[uid]))
    files = in_order(series[largest])
    # How many frames before it, for each file and the end: a header may claim millions.
    starts = np.cumsum([0, *(n_frames(header) for _, header in files)])
    depth = int(starts[-1])
    tallest = max(int(header.Rows) for _, header in files)
    check_size(tallest, max(int(header.Columns) for _, header in files), depth=depth)
    for file, header in files:
        check_frames(file, header)

    def planes(numbers: Sequence[int]) -> Iterator[Plane]:
        for number in numbers:
            at = int(np.searchsorted(starts, number, side="right")) - 1
            file, header = files[at]
            yield read_frame(file, header, number - int(starts[at]), window=window)

    n_pixels = sum(n_frames(h) * int(h.Rows) * int(h.Columns) for _, h in files)
    return Stack(depth, n_pixels, planes, left_out_series=len(series) - 1)


def _series(files: Iterable[Path]) -> "dict[str, list[tuple[Path, Dataset]]]":
    """The readable slices by their series; an index or a report among them is passed over."""
    series: dict[str, list[tuple[Path, Dataset]]] = {}
    reason: Reason = "undecodable"
    for file in files:
        try:
            with refusing_damage():
                header = read_header(file) if file.is_file() and is_dicom(file) else None
        except UnreadableError as error:
            if error.reason != "undecodable":
                reason = error.reason
        else:
            if header is not None:
                uid = str(header.get("SeriesInstanceUID", ""))
                series.setdefault(uid, []).append((file, header))
    if not series:
        raise UnreadableError(reason)
    return series


def in_order(slices: Sequence[tuple[Path, "Dataset"]]) -> list[tuple[Path, "Dataset"]]:
    """Sorted by the place along the normal of the slices, then by their numbers.

    Where a position or an orientation is missing, by their numbers alone.
    """
    normal = _normal(slices[0][1])
    places = [_place(header, normal) for _, header in slices]
    by_place = all(place is not None for place in places)

    def key(number: int) -> tuple[float, int, str]:
        file, header = slices[number]
        place = places[number] if by_place else None
        return place or 0.0, int(header.get("InstanceNumber") or 0), file.name

    return [slices[number] for number in sorted(range(len(slices)), key=key)]


def _normal(header: "Dataset") -> np.ndarray | None:
    directions = header.get("ImageOrientationPatient")
    if directions is None or len(directions) != 6:
        return None
    along = np.array(directions, dtype=np.float64)
    return np.cross(along[:3], along[3:])


def _place(header: "Dataset", normal: np.ndarray | None) -> float | None:
    """Millimetres along the normal."""
    position = header.get("ImagePositionPatient")
    if normal is None or position is None or len(position) != 3:
        return None
    place = float(np.array(position, dtype=np.float64) @ normal)
    return place if np.isfinite(place) else None
