"""What the header of a DICOM file says of the patient; its pixels are not read."""

from clinical.extract.images.damage import refusing_damage
from clinical.extract.images.dicom import is_dicom
from clinical.extract.images.installing import is_installed, tell
from clinical.extract.images.stack import UnreadableError
from clinical.extract.privacy.patterns import OLD, identifiers, mask

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

# After the attributes that DICOM PS3.15, table E.1-1, has removed, those that point to a person.
_TELLING = (
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PatientBirthDate",
    "MedicalRecordLocator",
    "InsurancePlanIdentification",
    "ResponsiblePerson",
)
_TEXTS = ("PatientID", "PatientComments", "ImageComments", "StudyDescription", "SeriesDescription")
_NOBODY = re.compile(
    r"(?i)anon\w*|de-?identified|removed|redacted|unknown|none|no|name|patient|subject|case|test|x+"
)


def of_file(path: Path) -> dict[str, str] | None:
    """Kinds of identifiers in a header with a masked example each.

    None of what is no DICOM file or is damaged: reading it is where that is told.
    """
    try:
        with refusing_damage():
            if not path.is_file() or not is_dicom(path):
                return None
            if not is_installed("dicom"):
                tell("dicom")
                return None
            return dict(_of_header(_header(path)))
    except UnreadableError:
        return None


def _header(path: Path) -> "Dataset":
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True)


def _of_header(header: "Dataset") -> Iterator[tuple[str, str]]:
    name = _text(header.get("PatientName"))
    if _is_name(name):
        yield "PatientName", mask(name, name)
    for keyword in _TELLING:
        if text := _text(header.get(keyword)):
            yield keyword, mask(text, text)
    for keyword in _TEXTS:
        yield from identifiers(_text(header.get(keyword)))
    years = re.fullmatch(r"(\d{1,16})Y", _text(header.get("PatientAge")))
    if years and int(years[1]) > 89:
        yield OLD, "###Y"
    if _text(header.get("BurnedInAnnotation")).upper() == "YES":
        yield "burnt-in annotation", ""
    if any(element.tag.is_private for element in header):
        yield "private tag", ""


def _is_name(name: str) -> bool:
    """Whether it has words, none of which a digit or a usual placeholder makes a pseudonym."""
    words = re.findall(r"[^\W\d_]{2,}", name)
    return bool(words) and not re.search(r"\d", name) and not all(map(_NOBODY.fullmatch, words))


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
