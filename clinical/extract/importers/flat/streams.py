"""The bytes of a file, and what can be wrong with them in words that quote no cell."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.files import SourceFile

import codecs
import gzip
import io
import zlib
from collections.abc import Callable
from typing import IO, TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")

_MARK = ord('"')

BLOCK_BYTES = 16 * 2**20
"""Of text at a time; a record is no longer."""
# Tables of hospitals pack by a factor of 5 to 20; a small archive made to unpack without end, by up
# to 1,032.
MAX_RATIO = 200
FREE_BYTES = 256 * 2**20


class WatchedQuotes(io.RawIOBase):
    """A stream that notices quotation marks where no cell begins or ends.

    Arrow takes what follows a mark into the cell, other lines as well, and says nothing. Marks come
    in pairs: the first of a pair follows a separator, a line's end or a mark, and one of these
    follows the second. Where that doesn't hold the file has to be looked at more closely.
    """

    def __init__(self, stream: IO[bytes], separator: str) -> None:
        self._stream = stream
        self._fits = np.zeros(256, dtype=bool)
        self._fits[list(f'{separator}\r\n"'.encode())] = True
        self._last = ord("\n")
        self._n_marks = 0
        self._is_odd = False
        self._is_start = True

    @property
    def is_suspicious(self) -> bool:
        """Whether a mark of what was read so far may not be one of a pair around a cell."""
        return self._is_odd or self._n_marks % 2 == 1

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self._watch(content.removeprefix(codecs.BOM_UTF8) if self._is_start else content)
        self._is_start = False
        return content

    def _watch(self, content: bytes) -> None:
        if self._last != _MARK and _MARK not in content:  # most tables have none
            self._last = content[-1] if content else self._last
            return
        if not content:
            return
        codes = np.frombuffer(bytes([self._last]) + content, dtype=np.uint8)
        # The mark at the end of what came before is looked at now, with what follows it.
        marks = np.flatnonzero(codes[:-1] == _MARK)
        n_before = self._n_marks - (self._last == _MARK)
        is_second = (n_before + np.arange(len(marks))) % 2 == 1
        begins = marks[~is_second & (marks > 0)]
        if not (
            self._fits[codes[begins - 1]].all() and self._fits[codes[marks[is_second] + 1]].all()
        ):
            self._is_odd = True
        if codes[-1] == _MARK and (n_before + len(marks)) % 2 == 0:
            self._is_odd |= not self._fits[codes[-2]]
        self._n_marks = n_before + len(marks) + int(codes[-1] == _MARK)
        self._last = int(codes[-1])


class _Capped(io.RawIOBase):
    """A gzipped file that stops where it unpacks to implausibly much."""

    def __init__(self, file: SourceFile) -> None:
        self._stream = gzip.open(file.path, "rb")  # noqa: SIM115  (closed by close)
        self._where = file.where
        self._limit = max(FREE_BYTES, MAX_RATIO * file.path.stat().st_size)
        self._n_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self._n_bytes += len(content)
        if self._n_bytes > self._limit:
            raise SchemaError(
                f"{self._where}: unpacks to more than {MAX_RATIO} times its size; check it, or "
                "unpack it first"
            )
        return content

    def close(self) -> None:
        self._stream.close()
        super().close()


def open_bytes(file: SourceFile) -> IO[bytes]:
    """The content of a file, unpacked where its name ends in .gz."""
    if file.path.name.lower().endswith(".gz"):
        return _Capped(file)  # type: ignore[return-value]
    try:
        return file.path.open("rb")
    except OSError as error:
        raise SchemaError(f"{file.where}: cannot be read ({error.strerror})") from None


def not_encoded(file: SourceFile) -> SchemaError:
    """The error of a file that is not text in its encoding."""
    return SchemaError(
        f"{file.where}: not text in the encoding of its table; say which, such as encoding: latin-1"
    )


def reading(file: SourceFile, read: Callable[[], T]) -> T:
    """What `read` gives; or an error in our words, as arrow's can quote cells."""
    try:
        return read()
    except pa.ArrowInvalid as error:
        words = str(error)
        if "UTF8" in words or "decode" in words:
            raise not_encoded(file) from None
        if "straddling" in words:
            raise SchemaError(
                f"{file.where}: a record is longer than {BLOCK_BYTES >> 20} MB; is a quotation "
                "mark opened and never closed?"
            ) from None
        raise SchemaError(f"{file.where}: not delimited text; check the file") from None
    except UnicodeError:
        raise not_encoded(file) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SchemaError(f"{file.where}: damaged or incomplete; copy it again") from None
    except OSError as error:
        raise SchemaError(f"{file.where}: cannot be read ({error.strerror})") from None
