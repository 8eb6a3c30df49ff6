"""Images as files: which can be read, and their slices in grey.

`open_stack` reads whatever an `image_path` names; `check_images` is what `clinical validate` says
of them.
"""

from clinical.extract.images.checking import check_images
from clinical.extract.images.installing import is_installed
from clinical.extract.images.reading import open_stack, quiet, tell_what_is_missing
from clinical.extract.images.stack import Stack, UnreadableError, to_grey

__all__ = [
    "Stack",
    "UnreadableError",
    "check_images",
    "is_installed",
    "open_stack",
    "quiet",
    "tell_what_is_missing",
    "to_grey",
]
