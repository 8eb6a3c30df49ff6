"""DICOM files made by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MakeDicom = Callable[..., Path]


@pytest.fixture
def make_dicom(tmp_path: Path) -> MakeDicom:
    """Writes a native grey file; keywords are its elements, None leaves one out."""
    pydicom = pytest.importorskip("pydicom")

    def make(name: str, pixels: np.ndarray, **elements: Any) -> Path:
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = elements.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.3", "1.2.3.4"
        ds = pydicom.dataset.FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        bits = pixels.dtype.itemsize * 8
        plain = {
            "SOPClassUID": "1.2.3",
            "SOPInstanceUID": "1.2.3.4",
            "SeriesInstanceUID": "1.2",
            "Modality": "OT",
            "PatientName": "Secret^Name",
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": pixels.shape[-2],
            "Columns": pixels.shape[-1],
            "BitsAllocated": bits,
            "BitsStored": bits,
            "HighBit": bits - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
            "PixelData": pixels.tobytes(),
        }
        for keyword, value in {**plain, **elements}.items():
            if value is not None:
                setattr(ds, keyword, value)
        ds["PixelData"].VR = "OW"
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        return path

    return make
