"""DICOM files by pydicom: modality LUT or rescale, then VOI LUT or window, then grey."""

from clinical.extract.images.codestream import coded_size
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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from pydicom import Dataset

_PALETTE = [
    f"{segmented}{colour}PaletteColorLookupTable{part}"
    for segmented in ("", "Segmented")
    for colour in ("Red", "Green", "Blue", "Alpha")
    for part in ("Descriptor", "Data")
    if not (segmented and part == "Descriptor")
]
# All that is read of a header: nothing of it names a patient.
_TAGS = [
    "SeriesInstanceUID",
    "Modality",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *_PALETTE,
]


def is_dicom(path: Path) -> bool:
    """Whether a file begins like one, whatever its name."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def open_dicom(path: Path, *, window: Window | None = None) -> Stack:
    """A DICOM file; several frames are slices.

    Args:
        path: Of the file.
        window: Of CT, in Hounsfield units; None for the one that the file itself has.
    """
    header = read_header(path)
    check_frames(path, header)

    def planes(numbers: Sequence[int]) -> Iterator[Plane]:
        for number in numbers:
            yield read_frame(path, header, number, window=window)

    depth = n_frames(header)
    return Stack(depth, depth * int(header.Rows) * int(header.Columns), planes)


def read_header(path: Path) -> "Dataset":
    """What describes the pixels of a file; neither the pixels nor the patient.

    Raises:
        UnreadableError: pydicom or a plugin is missing, there are no pixels or far too many.
    """
    if not is_installed("dicom"):
        tell("dicom")
        raise UnreadableError("unsupported")
    import pydicom
    from pydicom.filereader import read_file_meta_info

    # Deflated as a whole: it would have to be inflated before its header says how large it is.
    syntax = read_file_meta_info(path).get("TransferSyntaxUID")
    if syntax is not None and syntax.is_deflated:
        raise UnreadableError("unsupported")
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    if "Rows" not in header or "Columns" not in header:
        raise UnreadableError("undecodable")
    check_size(int(header.Rows), int(header.Columns), depth=n_frames(header))
    _check_decoder(header)
    return header


def n_frames(header: "Dataset") -> int:
    """Frames of a file."""
    return int(header.get("NumberOfFrames") or 1)


def check_frames(path: Path, header: "Dataset") -> None:
    """Refuse more frames than the bytes of the file can hold.

    Raises:
        UnreadableError: There are fewer bytes than one value of each pixel would take.
    """
    frames = n_frames(header)
    if frames == 1 or header.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    bits = int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) * frames
    if bits // 8 > path.stat().st_size:
        raise UnreadableError("undecodable")


def _check_decoder(header: "Dataset") -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    try:
        decoder = get_decoder(header.file_meta.TransferSyntaxUID)
    except NotImplementedError:  # videos, and what is no transfer syntax of images
        raise UnreadableError("unsupported") from None
    if not decoder.is_available:
        tell("dicom-compressed")
        raise UnreadableError("unsupported")
    is_deep = JPEGExtended12Bit == decoder.UID and header.get("BitsStored", 8) > 8
    if is_deep and "pylibjpeg" not in decoder.available_plugins:
        tell("12-bit")
        raise UnreadableError("unsupported")


def read_frame(path: Path, header: "Dataset", number: int, *, window: Window | None) -> Plane:
    """One frame: grey, or deep where the file has no window for it."""
    from pydicom.pixels import pixel_array
    from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

    coded = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        _check_frame(path, header, number, is_coded=syntax in coded)
    # Brings YBR to RGB.
    stored = pixel_array(path, index=number)
    if stored.ndim == 3 or header.PhotometricInterpretation == "PALETTE COLOR":
        return _grey_of_colour(stored, header)
    is_inverted = header.PhotometricInterpretation == "MONOCHROME1"
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2:
        return _displayed(stored, header, number, window=window, is_inverted=is_inverted)
    # The way from a value to its grey is the same for every pixel: once for each value.
    lowest = int(stored.min())
    table = _displayed(
        np.arange(lowest, int(stored.max()) + 1),
        header,
        number,
        window=window,
        is_inverted=is_inverted,
    )
    if table.dtype != np.uint8:
        table = table.astype(np.float32)  # of as many bits as there are; a stack may be large
    grey: Plane = table[stored.astype(np.int32) - lowest]
    return grey


def _check_frame(path: Path, header: "Dataset", number: int, *, is_coded: bool) -> None:
    """Refuse a compressed frame that would grow beyond what the header says."""
    import pydicom
    from pydicom.encaps import get_frame

    with path.open("rb") as file:
        pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Rows"])
        # After the tag, the kind and the length of the pixel data stand its frames.
        file.seek(12, 1)
        frame = get_frame(file, number, number_of_frames=n_frames(header))
    if is_coded:
        check_size(*coded_size(frame))
    rows, columns, depth = int(header.Rows), int(header.Columns), int(header.BitsAllocated)
    size = rows * columns * int(header.get("SamplesPerPixel", 1)) * -(-depth // 8)
    if len(frame) > 2 * size + 65536:
        raise UnreadableError("undecodable")


def _displayed(
    stored: NDArray[Any],
    header: "Dataset",
    number: int,
    *,
    window: Window | None,
    is_inverted: bool,
) -> Plane:
    """Stored values as grey; as deep values where nothing says which range to show."""
    from pydicom.pixels import apply_modality_lut

    rescale = _of_frame(header, number, "PixelValueTransformationSequence")
    has_rule = _is_rescaled(rescale) or rescale.get("ModalityLUTSequence")
    values = apply_modality_lut(stored, rescale) if has_rule else stored
    shades = _shades(values, header, number, hounsfield=window if _is_ct(header, rescale) else None)
    if shades is None:
        return -values.astype(np.float64) if is_inverted else values
    return to_eight_bits(1 - shades if is_inverted else shades)


def _is_rescaled(rescale: "Dataset") -> bool:
    """Whether there are a slope and an intercept; an empty one is none."""
    return all(
        _first(rescale.get(name)) is not None for name in ("RescaleSlope", "RescaleIntercept")
    )


def _is_ct(header: "Dataset", rescale: "Dataset") -> bool:
    """Whether rescaled values are in Hounsfield units."""
    unit = rescale.get("RescaleType") or "HU"
    return header.get("Modality") == "CT" and _is_rescaled(rescale) and unit == "HU"


def _shades(
    values: NDArray[Any], header: "Dataset", number: int, *, hounsfield: Window | None
) -> NDArray[np.float64] | None:
    """Grey from 0 to 1; None where the file has neither a VOI LUT nor a window."""
    from pydicom.pixels import apply_voi

    if hounsfield is not None:
        return windowed(values, hounsfield)
    voi = _of_frame(header, number, "FrameVOILUTSequence")
    if voi.get("VOILUTSequence"):
        depth = int(voi.VOILUTSequence[0].LUTDescriptor[2])
        looked_up: NDArray[np.float64] = apply_voi(values, voi) / (2.0**depth - 1)
        return looked_up
    center, width = (_first(voi.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(voi.get("VOILUTFunction") or "LINEAR").upper()
    # A width below 1, which the standard forbids, shows nothing: as if there were no window.
    if center is not None and width is not None and width >= (1 if function == "LINEAR" else 1e-9):
        return windowed(values, (center, width), function=function)
    if values.dtype.kind in "iu" and header.BitsStored == 8 and not header.PixelRepresentation:
        return values / 255
    return None


def _first(value: Any) -> float | None:
    """The first of one or several numbers."""
    if value is None or value == "":
        return None
    return float(value) if isinstance(value, (int, float, str)) else float(value[0])


def _of_frame(header: "Dataset", number: int, sequence: str) -> "Dataset":
    """What is said of one frame: of it alone, of all frames, or of the file."""
    own = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    for groups in (*own[number : number + 1], *shared):
        if groups.get(sequence):
            found: Dataset = groups[sequence][0]
            return found
    return header


def _grey_of_colour(stored: NDArray[Any], header: "Dataset") -> NDArray[np.uint8]:
    """[H, W, 3] or palette entries [H, W] -> luminance, as of a PNG in colour."""
    from pydicom.pixels import apply_color_lut

    if header.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(stored, header)[..., :3]
        highest = np.iinfo(colours.dtype).max
    else:
        colours, highest = stored[..., :3], 2 ** int(header.BitsStored) - 1
    if highest != 255:
        colours = to_eight_bits((colours / highest).clip(0, 1))
    return np.asarray(Image.fromarray(np.ascontiguousarray(colours, np.uint8)).convert("L"))
