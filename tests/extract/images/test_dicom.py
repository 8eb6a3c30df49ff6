"""DICOM: the same pixels as pydicom's documented route, or a reason."""

from clinical.extract.images import UnreadableError, installing, open_stack, quiet, to_grey
from clinical.extract.images import dicom as dicom_module
from clinical.extract.images.codestream import coded_size

import io
import logging
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("gdcm")

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = sorted(file for file in FOLDER.rglob("*") if file.is_file())
# Their route works on these, ours stops: one is deflated as a whole, so that it would have to be
# inflated to learn how large it is; the other is not encoded as it says.
REFUSED_ANYWAY = {"image_dfl.dcm": "unsupported", "SC_rgb_jpeg.dcm": "undecodable"}


def itself(name: str) -> Path:
    return Path(name)


def read(path: Path, **options: object) -> list[np.ndarray]:
    """All slices in grey."""
    with quiet():
        stack = open_stack(str(path), itself, **options)
        return to_grey(list(stack.planes(range(stack.depth))))


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(UnreadableError) as refused:
        read(path, **options)
    return refused.value.reason


def documented(path: Path) -> list[np.ndarray]:
    """pydicom's "Working with pixel data": decode, modality LUT, VOI LUT, then 0 to 255."""
    ds = pydicom.dcmread(path)
    frames = ds.pixel_array
    if int(ds.get("NumberOfFrames") or 1) == 1:
        frames = frames[None]
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        colours = np.stack([pydicom.pixels.apply_color_lut(frame, ds) for frame in frames])
        return luminance(colours, 255.0 if colours.dtype == np.uint8 else 65535.0)
    if ds.SamplesPerPixel == 3:
        return luminance(frames, 2.0**ds.BitsStored - 1)
    values = pydicom.pixels.apply_modality_lut(frames, ds)
    shown = pydicom.pixels.apply_voi_lut(values, ds, index=0)
    if "WindowCenter" in ds:
        ends = (0, 2**ds.BitsStored - 1)
        if ds.PixelRepresentation:
            ends = (-(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1) - 1)
        low, high = pydicom.pixels.apply_modality_lut(np.array(ends), ds)
    elif ds.BitsStored == 8:
        low, high = 0, 255
    else:
        low, high = shown.min(), shown.max()
    grey = (shown - float(low)) / (float(high) - float(low)) * 255
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    return list(np.rint(grey).astype(np.uint8))


def luminance(colours: np.ndarray, highest: float) -> list[np.ndarray]:
    eight = np.rint(colours[..., :3] / highest * 255).astype(np.uint8)
    return [np.asarray(Image.fromarray(frame).convert("L")) for frame in eight]


def compare(file: Path) -> str:
    """`decoded`, or why not; fails where ours and theirs disagree."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = documented(file)
    except Exception:  # noqa: BLE001  (whatever it is, ours must refuse with a reason)
        expected = None
    try:
        found = read(file, window=None)
    except UnreadableError as error:
        reason = error.reason
    else:
        reason = None
    if reason is not None:
        assert expected is None or REFUSED_ANYWAY.get(file.name) == reason
        return reason
    assert expected is not None
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        # A half may be rounded either way.
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        assert (ours != theirs).mean() < 0.001
    return "decoded"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(FOLDER).as_posix())
def test_a_file_of_pydicoms_own_decodes_as_documented_or_is_refused(file) -> None:
    assert compare(file) in ("decoded", "undecodable", "too_large", "unsupported")


def test_most_of_pydicoms_own_files_with_pixels_decode() -> None:
    few = [file for file in FILES if file.parent == FOLDER and file.suffix == ".dcm"]
    outcomes = Counter()
    for file in few:
        try:
            read(file, window=None)
            outcomes["decoded"] += 1
        except UnreadableError as error:
            outcomes[error.reason] += 1
    assert outcomes["decoded"] >= 50
    # Two files of 12-bit JPEG, and one that is deflated as a whole.
    assert outcomes["unsupported"] == 3


RAMP = np.arange(64, dtype=np.int16).reshape(8, 8) * 40 - 1000


def ct(**more: object) -> dict[str, object]:
    return {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -24, "BitsStored": 16, **more}


def test_a_ct_is_seen_under_the_window_asked_for_and_not_its_own(make_dicom) -> None:
    path = make_dicom("ct.dcm", RAMP, **ct(WindowCenter=0, WindowWidth=100))
    (found,) = read(path, window=(-300.0, 1400.0))
    assert np.array_equal(found, np.rint(((RAMP - 24.0 + 1000) / 1400).clip(0, 1) * 255))
    (own,) = read(path, window=None)
    assert not np.array_equal(own, found)
    (same,) = read(make_dicom("mr.dcm", RAMP, **ct(WindowCenter=0, WindowWidth=100, Modality="MR")))
    assert np.array_equal(same, own)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", [1, 2.5])
def test_windows_are_those_of_pydicom(make_dicom, function, slope) -> None:
    path = make_dicom(
        "w.dcm",
        RAMP,
        RescaleSlope=slope,
        RescaleIntercept=3,
        WindowCenter=[100, 7],
        WindowWidth=[900, 8],
        VOILUTFunction=function,
    )
    assert compare(path) == "decoded"


def test_monochrome1_is_inverted(make_dicom) -> None:
    window = {"WindowCenter": 0, "WindowWidth": 1000}
    (plain,) = read(make_dicom("m2.dcm", RAMP, **window))
    (inverted,) = read(
        make_dicom("m1.dcm", RAMP, PhotometricInterpretation="MONOCHROME1", **window)
    )
    assert np.abs(255 - plain.astype(int) - inverted).max() <= 1
    (deep,) = read(make_dicom("deep.dcm", RAMP, PhotometricInterpretation="MONOCHROME1"))
    assert deep[0, 0] == 255
    assert deep[-1, -1] == 0


def table(kind: str, values: list[int], first: int, bits: int) -> "pydicom.Sequence":
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.LUTData = values
    item["LUTData"].VR = "US"
    item["LUTDescriptor"].VR = "SS"
    if kind == "modality":
        item.ModalityLUTType = "US"
    return pydicom.Sequence([item])


def test_tables_are_looked_up(make_dicom) -> None:
    pixels = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    voi = table("voi", [4095, 2000, 1000, 0], 0, 12)
    (found,) = read(make_dicom("voi.dcm", pixels, VOILUTSequence=voi))
    assert np.array_equal(found, np.rint(np.array([[4095, 2000], [1000, 0]]) / 4095 * 255))
    modality = table("modality", [3, 2, 1, 0], 0, 16)
    both = make_dicom("both.dcm", pixels, ModalityLUTSequence=modality, VOILUTSequence=voi)
    (turned,) = read(both)
    assert np.array_equal(turned, found[::-1, ::-1])


def test_what_an_enhanced_file_says_of_each_frame_is_used(make_dicom) -> None:
    frames = np.stack([RAMP, RAMP])
    groups = []
    for intercept in (0, 500):
        rescale, group = pydicom.Dataset(), pydicom.Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, intercept, "HU"
        group.PixelValueTransformationSequence = [rescale]
        groups.append(group)
    path = make_dicom(
        "enhanced.dcm",
        frames,
        Modality="CT",
        NumberOfFrames=2,
        PerFrameFunctionalGroupsSequence=groups,
    )
    found = read(path, window=(0.0, 2000.0))
    for plane, intercept in zip(found, (0, 500), strict=True):
        expected = ((RAMP + intercept + 1000) / 2000).clip(0, 1) * 255
        assert np.abs(plane - expected).max() <= 0.51


@pytest.mark.parametrize("empty", ["RescaleSlope", "RescaleIntercept"])
def test_an_empty_rescale_is_none(make_dicom, empty) -> None:
    (plain,) = read(make_dicom("plain.dcm", RAMP))
    (found,) = read(make_dicom("empty.dcm", RAMP, **ct(**{empty: ""})), window=(-300.0, 1400.0))
    assert np.array_equal(found, plain)


def test_an_unusable_window_counts_as_none(make_dicom) -> None:
    (found,) = read(make_dicom("zero.dcm", RAMP, WindowCenter=0, WindowWidth=0))
    assert found.min() == 0
    assert found.max() == 255


def test_what_would_fill_the_memory_is_refused_before_it_is_decoded(
    make_dicom, monkeypatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("was decoded")

    monkeypatch.setattr("pydicom.pixels.pixel_array", never)
    small = np.zeros((2, 2), np.uint8)
    assert refusal(make_dicom("wide.dcm", small, Rows=60000, Columns=60000)) == "too_large"
    assert refusal(make_dicom("long.dcm", small, NumberOfFrames=2_000_000_000)) == "too_large"
    deflated = pydicom.uid.DeflatedExplicitVRLittleEndian
    assert refusal(make_dicom("deflated.dcm", small, syntax=deflated)) == "unsupported"
    lie = io.BytesIO()
    Image.new("L", (20000, 10000)).save(lie, "JPEG")
    frames = pydicom.encaps.encapsulate([lie.getvalue()])
    baseline = pydicom.uid.JPEGBaseline8Bit
    bomb = make_dicom("bomb.dcm", small, syntax=baseline, PixelData=frames)
    assert refusal(bomb) == "too_large"
    frames = pydicom.encaps.encapsulate([b"\x00" * 100_000])
    grown = make_dicom("rle.dcm", small, syntax=pydicom.uid.RLELossless, PixelData=frames)
    assert refusal(grown) == "undecodable"


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_the_size_is_read_from_compressed_pixels(kind) -> None:
    coded = io.BytesIO()
    Image.new("RGB", (30, 17)).save(coded, kind)
    assert coded_size(coded.getvalue()) == (17, 30)
    with pytest.raises(ValueError, match="neither"):
        coded_size(b"%!PS-Adobe-3.0 EPSF-3.0")


def test_any_truncation_is_refused_or_an_image_in_silence(tmp_path, recwarn, caplog) -> None:
    for name in ("MR_small.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_RLE.dcm"):
        content = (FOLDER / name).read_bytes()
        for length in range(0, len(content), len(content) // 12):
            cut = tmp_path / "cut.dcm"
            cut.write_bytes(content[:length])
            try:
                read(cut)
            except UnreadableError as error:
                assert error.reason in ("undecodable", "unsupported")  # noqa: PT017
    assert not recwarn.list
    assert not caplog.records


def test_without_pydicom_a_file_is_unsupported_and_the_remedy_told_once(
    make_dicom, monkeypatch, caplog
) -> None:
    path = make_dicom("one.dcm", RAMP)
    monkeypatch.setattr(dicom_module, "is_installed", lambda need: False)
    installing.tell.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert refusal(path) == "unsupported"
        assert refusal(path) == "unsupported"
    installing.tell.cache_clear()
    (record,) = caplog.records
    assert "pip install 'clinical[dicom]'" in record.getMessage()


def test_nothing_of_the_patient_is_read(make_dicom) -> None:
    header = dicom_module.read_header(make_dicom("named.dcm", RAMP))
    assert "PatientName" not in header
    assert "Secret" not in str(header)
