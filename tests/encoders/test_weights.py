"""Damaged files of weights are told as such, whatever their reader stumbles over."""

import clinical  # noqa: F401
from clinical.encoders.weights import read_tensors
from clinical.errors import ConfigError

from pathlib import Path

import pytest

DAMAGED = {
    "empty.pth": b"",
    "empty.safetensors": b"",
    "text.pth": b"hello",
    "number.pth": b"\x80\x02K\x01.",
    "begun.pth": b"\x80\x02",
    "cut.pth": b"\x80\x02}q\x00(X",
    "archive.pth": b"PK\x03\x04zzz",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_told_with_its_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.raises(ConfigError, match=f"{name}: not readable as plain tensors"):
        read_tensors(tmp_path / name)
