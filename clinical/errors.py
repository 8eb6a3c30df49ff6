"""The errors users meet: each says what was wrong, where, and what to do about it.

Messages carry counts, files and columns, never a patient identifier or the text of a note.
"""


class ClinicalError(Exception):
    """Base of every error that a user can mend; the command line shows it as one line."""


class ConfigError(ClinicalError):
    """A configuration key, value or command-line argument is wrong."""


class SchemaError(ClinicalError):
    """A file of the extract, the labels or the predictions breaks its schema."""


class LeakageError(ClinicalError):
    """Something that must not reach a score (the future, a label, another split) would have."""


class BundleError(ClinicalError):
    """A model bundle is incomplete, changed, of another version or unsafe to open."""
