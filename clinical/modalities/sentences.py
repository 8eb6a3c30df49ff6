"""Where the sentences and lines of a note begin, and which of them say the same."""

import re

import numpy as np
from numpy.typing import NDArray

SHORTEST_LINE = 5
"""Words of a line that may count as copied: "no acute distress" is soon written twice."""

# No part can fail after a long run, so the cost is linear in the text. A comma may stand for a
# line's end: some exports join lines so ("NAD.,PLAN: rest").
_BREAK = re.compile(r"""[.!?;]["')\]]{0,3}(?:\s+|,\s*)|\n\s*""")


def sentence_starts(text: str) -> NDArray[np.int32]:
    """[S] where each sentence or line begins, in characters, ascending; the first is 0."""
    ends = (found.end() for found in _BREAK.finditer(text))
    return np.array([0, *(end for end in ends if end < len(text))], dtype=np.int32)


class Wordings:
    """Numbers for what lines say, whatever their blanks and case; equal ones say the same."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, text: str, starts: NDArray[np.int32]) -> NDArray[np.int64]:
        """[S] number of each line that begins at `starts`; -1 where it is too short to tell."""
        ends = [*starts[1:].tolist(), len(text)]
        lines = [text[a:b].lower().split() for a, b in zip(starts.tolist(), ends, strict=True)]
        numbers = self._numbers
        found = [
            numbers.setdefault(" ".join(words), len(numbers)) if len(words) >= SHORTEST_LINE else -1
            for words in lines
        ]
        return np.array(found, dtype=np.int64)
