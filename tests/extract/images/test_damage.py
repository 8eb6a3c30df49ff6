"""Damage of a file makes it unreadable; trouble of the machine does not."""

from clinical.extract.images import UnreadableError, open_stack
from clinical.extract.images.damage import refusing_damage

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.EACCES])
def test_the_systems_trouble_is_not_the_files(number) -> None:
    with pytest.raises(OSError, match=os.strerror(number)), refusing_damage():
        raise OSError(number, os.strerror(number))
    with pytest.raises(MemoryError), refusing_damage():
        raise MemoryError


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("nibabel.spatialimages", "HeaderDataError"),
        ("nibabel.spatialimages", "ImageDataError"),
        ("nibabel.filebasedimages", "ImageFileError"),
        ("nibabel.wrapstruct", "WrapStructError"),
        ("pydicom.errors", "InvalidDicomError"),
    ],
)
def test_what_the_libraries_raise_of_their_own_is_damage(module, name) -> None:
    error = getattr(pytest.importorskip(module), name)
    with pytest.raises(UnreadableError, match="undecodable"), refusing_damage():
        raise error("damaged")


def test_too_many_open_files_end_the_reading(tmp_path, monkeypatch) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    stack = open_stack("a.png", lambda name: tmp_path / name)

    def too_many(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Image, "open", too_many)
    with pytest.raises(OSError, match="Too many open files"):
        list(stack.planes([0]))


def test_a_broken_library_is_no_damage(make_dicom, tmp_path: Path, monkeypatch) -> None:
    path = make_dicom("a.dcm", np.zeros((2, 2), np.uint8))

    def broken(name: str) -> None:
        raise AttributeError(name)

    monkeypatch.setattr("clinical.extract.images.installing.importlib.import_module", broken)
    with pytest.raises(AttributeError):
        open_stack(path.name, lambda name: tmp_path / name)
