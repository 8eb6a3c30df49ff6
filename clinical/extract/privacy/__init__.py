"""What looks like direct identifiers in an extract that should have none."""

from clinical.extract.privacy.found import Found, Identifiers
from clinical.extract.privacy.guard import FILE, by_design, guard_import, guard_preparation
from clinical.extract.privacy.patterns import KINDS, OLD, identifiers
from clinical.extract.privacy.scan import find_identifiers

__all__ = [
    "FILE",
    "KINDS",
    "OLD",
    "Found",
    "Identifiers",
    "by_design",
    "find_identifiers",
    "guard_import",
    "guard_preparation",
    "identifiers",
]
