"""What looks like direct identifiers in an extract that should have none."""

from clinical.extract.privacy.found import Found, Identifiers
from clinical.extract.privacy.guard import FILE, guard_import, guard_preparation
from clinical.extract.privacy.patterns import KINDS, OLD, identifiers
from clinical.extract.privacy.scan import find_identifiers

__all__ = [
    "FILE",
    "KINDS",
    "OLD",
    "Found",
    "Identifiers",
    "find_identifiers",
    "guard_import",
    "guard_preparation",
    "identifiers",
]
