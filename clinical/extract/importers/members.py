"""The files of a folder or an archive, read one at a time and never unpacked to disk."""

from clinical.errors import ConfigError, SchemaError

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

# A stay of the PhysioNet challenge is 10 kB, a set of 4,000 is 40 MB: what is far above that is
# not one, but may be a small archive made to unpack without end.
MAX_FILE_BYTES = 16 * 2**20
MAX_TOTAL_BYTES = 4 * 2**30
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")

# zipfile raises RuntimeError for an encrypted file and one compressed in a way it doesn't know.
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError)


def source_name(source: Path) -> str:
    """The name of a folder or archive without the endings of an archive."""
    name = source.resolve().name
    return next((name.removesuffix(end) for end in ARCHIVES if name.endswith(end)), name)


def read_members(source: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Name (without folders) and content of each file whose name matches, at any depth.

    Links and devices in an archive are passed over; nothing is written.

    Raises:
        ConfigError: `source` does not exist or is no folder and no archive.
        SchemaError: The archive is damaged, or a file or the whole is implausibly large.
    """
    if source.is_dir():
        yield from _read_folder(source, pattern)
    elif not source.exists():
        raise ConfigError(f"there is no {source}; check the path")
    elif not source.name.endswith(ARCHIVES):
        raise ConfigError(f"{source.name} is neither a folder nor {', '.join(ARCHIVES)}")
    else:
        read = _read_zip if source.suffix == ".zip" else _read_tar
        try:
            yield from read(source, pattern)
        except _DAMAGED as error:
            raise SchemaError(
                f"{source.name}: the archive is damaged, incomplete or encrypted; download it again"
            ) from error


def _read_folder(source: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    for path in sorted(source.rglob("*")):
        if pattern.fullmatch(path.name) and path.is_file():
            with path.open("rb") as file:
                yield path.name, _read_capped(file, source.name)


def _read_tar(source: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    total = 0
    with tarfile.open(source, "r:*") as archive:
        for member in archive:
            # Every member counts: passing over one unpacks it in memory all the same.
            total = _add_size(total, member.size, source.name)
            name = PurePosixPath(member.name).name
            if member.isfile() and pattern.fullmatch(name):
                file = archive.extractfile(member)
                assert file is not None
                yield name, _read_capped(file, source.name)


def _read_zip(source: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    total = 0
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            name = PurePosixPath(member.filename).name
            if not member.is_dir() and pattern.fullmatch(name):
                with archive.open(member) as file:
                    content = _read_capped(file, source.name)
                total = _add_size(total, len(content), source.name)
                yield name, content


def _add_size(total: int, size: int, where: str) -> int:
    if total + size > MAX_TOTAL_BYTES:
        raise SchemaError(f"{where}: unpacks to more than {MAX_TOTAL_BYTES} bytes; check it")
    return total + size


def _read_capped(file: IO[bytes], where: str) -> bytes:
    content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise SchemaError(f"{where}: a file in it has more than {MAX_FILE_BYTES} bytes; check it")
    return content
