"""Why a row or a cell gives no event, in the words of the report and of the rejects."""

from enum import IntEnum

MAX_CODE = 200
"""Characters; what is longer is a sentence, which has no place among codes."""
MAX_CATEGORY = 64


class Reason(IntEnum):
    """A number for each reason, so that a column of them is small; 0 is none."""

    RAGGED = 1
    FILTERED = 2
    NO_SUBJECT = 3
    BAD_SUBJECT = 4
    NO_TIME = 5
    BAD_TIME = 6
    ZONED = 7
    FAR = 8
    NO_CODE = 9
    LONG_CODE = 10
    NO_VALUE = 11
    BAD_VALUE = 12
    BIG_VALUE = 13
    IMPOSSIBLE = 14
    LONG_CATEGORY = 15
    NO_IMAGE = 16
    OUTSIDE = 17
    BAD_LABEL = 18
    CONFLICT = 19
    EMPTY_FILE = 20
    NO_KEY = 21

    @property
    def words(self) -> str:
        """For people."""
        return WORDS[self]


WORDS = {
    Reason.RAGGED: "more or fewer cells than the header",
    Reason.FILTERED: "left out by where",
    Reason.NO_SUBJECT: "no subject",
    Reason.BAD_SUBJECT: "the subject is no whole number",
    Reason.NO_TIME: "no time",
    Reason.BAD_TIME: "the time is in none of the formats",
    Reason.ZONED: "the time has a zone, and the mapping no time_zone",
    Reason.FAR: "the time is outside the years of the mapping",
    Reason.NO_CODE: "a cell of the code is empty",
    Reason.LONG_CODE: f"the code has over {MAX_CODE} characters, or a line break",
    Reason.NO_VALUE: "nothing measured or said",
    Reason.BAD_VALUE: "the value is no number",
    Reason.BIG_VALUE: "the value is too large or too small for 32 bits",
    Reason.IMPOSSIBLE: "the value is outside the plausible range",
    Reason.LONG_CATEGORY: f"the category has over {MAX_CATEGORY} characters, or a line break",
    Reason.NO_IMAGE: "no such image",
    Reason.OUTSIDE: "the image's path leads out of the source",
    Reason.BAD_LABEL: "the label is not of its kind",
    Reason.CONFLICT: "the label differs from another of that time",
    Reason.EMPTY_FILE: "the file is empty",
    Reason.NO_KEY: "no key",
}

ABSENT = (Reason.FILTERED, Reason.NO_TIME, Reason.NO_CODE, Reason.NO_VALUE)
"""Of a cell that has nothing to say, which is no mistake where the row gives another event."""
