"""What the libraries raise on files that are cut, foreign or made up."""

from clinical.extract.images.stack import UnreadableError

import errno
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
# By name: the libraries may be missing, and are imported only for files that need them.
_OF_LIBRARIES = {
    "nibabel.filebasedimages.ImageFileError",
    "nibabel.spatialimages.HeaderDataError",
    "nibabel.spatialimages.ImageDataError",
    "nibabel.wrapstruct.WrapStructError",
    "pydicom.errors.InvalidDicomError",
}
# The trouble of a machine, which would pass for a lost image and change what a model sees.
_OF_SYSTEM = {
    errno.EACCES,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
}


@contextmanager
def refusing_damage() -> Iterator[None]:
    """Around the reading of a file: its damage is an `UnreadableError`.

    Want of memory and the trouble of the system are not the file's and stay what they are.
    """
    try:
        yield
    except Exception as error:
        if not _is_damage(error):
            raise
        raise UnreadableError("undecodable") from None


def _is_damage(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _OF_SYSTEM:
        return False
    kind = type(error)
    return isinstance(error, _DAMAGE) or f"{kind.__module__}.{kind.__name__}" in _OF_LIBRARIES
