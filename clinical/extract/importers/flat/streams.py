"""The bytes of a file, and what can be wrong with them in words that quote no cell."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.files import SourceFile

import gzip
import io
import zlib
from collections.abc import Callable
from typing import IO, TypeVar

import pyarrow as pa

T = TypeVar("T")

BLOCK_BYTES = 16 * 2**20
"""Of text at a time; a record is no longer."""
# Tables of hospitals pack by a factor of 5 to 20; a small archive made to unpack without end, by up
# to 1,032.
MAX_RATIO = 200
FREE_BYTES = 256 * 2**20


class CountingQuotes(io.RawIOBase):
    """A stream that counts its quotation marks: with an odd number, one may never be closed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.n_quotes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self.n_quotes += content.count(b'"')
        return content


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
