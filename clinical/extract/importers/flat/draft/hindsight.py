"""Columns that are known only afterwards, and when they may be seen."""

from clinical.extract.importers.flat.draft.looking import SeenColumn

import re
from collections.abc import Sequence

# Words anywhere in a name, then those that must stand by themselves: gender has an end.
_AFTERWARDS = (
    r"disch|outcome|death|died|surviv|mortal|expire|readmi|length_?of_?stay|stop|finish|complet"
    r"|cancel|final|status|entlass|austritt"
)
_WORDS = r"los|last|end|dead|dod"
_NEVER = r"marital|smok|famil"
_ENDS = r"disch|out|end|stop|finish|complet|clos|last|final|entlass|austritt"


def is_known_afterwards(name: str) -> bool:
    """Whether a column seems to say how something ended, or how long it was."""
    name = name.lower()
    if re.search(_NEVER, name):
        return False
    return re.search(rf"{_AFTERWARDS}|(?:^|[^a-z])(?:{_WORDS})(?:[^a-z]|$)", name) is not None


def has_end(times: Sequence[SeenColumn]) -> bool:
    """Whether a column of times seems to say when something ended."""
    return any(re.search(_ENDS, column.name.lower()) for column in times)
