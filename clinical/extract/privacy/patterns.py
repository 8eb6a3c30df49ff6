"""What direct identifiers look like in writing, and how they are shown without telling them.

After the identifiers of HIPAA's Safe Harbor rule (45 CFR 164.514(b)(2)), as far as their form gives
them away. A name is only looked for where a header announces it: running text is full of capitals.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

EMAIL = "e-mail address"
PHONE = "phone number"
SOCIAL = "social security number"
RECORD = "record number"
NAME = "name in a header"
BIRTH = "date of birth in a header"
OLD = "age over 89"

# No look-around, and classes of ASCII: what Rust reads like Python, and fast. Python goes back
# through what a repeat took, from every place of a text: each repeat of its expressions has a most,
# so that the work grows with the length of the text and not with its square.
_BEFORE = r"(?:^|[^0-9A-Za-z.\-])"
_AFTER = r"(?:$|[^0-9A-Za-z\-])"
_BLANKS = r"[ \t]{0,99}"
_HEADER = r"(?:^|[\n\r,;|>])" + _BLANKS
_IS = _BLANKS + r"[:=#][:=#. \t]{0,99}"
_WORD = r"[A-Z][A-Za-z'\-]{1,63}"
_LABEL = r"[A-Za-z0-9\-]{1,63}"

LONGEST_EXAMPLE = 80
"""Characters of what is shown."""


@dataclass(frozen=True)
class Pattern:
    """One form of an identifier.

    Attributes:
        kind: In words.
        found: A regular expression; what its group captures is the identifier, or its beginning
            where that is longer than any identifier.
        rough: One for Rust that finds at least the same texts, quickly.
        only_codes: Whether text may say this of anything, and codes of an identifier alone.
    """

    kind: str
    found: re.Pattern[str]
    rough: str
    only_codes: bool = False


def _pattern(
    kind: str, text: str, rough: str | None = None, *, only_codes: bool = False
) -> Pattern:
    return Pattern(kind, re.compile(text), rough or text, only_codes)


PATTERNS = (
    _pattern(
        EMAIL,
        rf"([A-Za-z0-9][A-Za-z0-9._%+\-]{{0,63}}@{_LABEL}(?:\.{_LABEL}){{0,9}}\.[A-Za-z]{{2,63}})",
        r"@[A-Za-z0-9\-.]+\.[A-Za-z]{2}",
    ),
    # Of North America, whose areas and exchanges begin with 2 to 9.
    _pattern(
        PHONE,
        _BEFORE
        + r"((?:\+?1[ .\-])?(?:\([2-9][0-9]{2}\)[ ]?|[2-9][0-9]{2}[.\-])[2-9][0-9]{2}[.\-][0-9]{4})"
        + _AFTER,
    ),
    _pattern(
        PHONE,
        _BEFORE + r"(\+[1-9][0-9]{0,2}[ \-]?(?:\(0\))?[0-9]{1,4}(?:[ \-][0-9]{2,4}){2,4})" + _AFTER,
    ),
    _pattern(
        PHONE,
        r"(?i:\b(?:tele)?phone|\btel|\bfax|\bmobile|\bcell)(?i:\.| number| no\.?)?"
        rf"(?: is|{_BLANKS}[:=#]){_BLANKS}" + r"(\+?[0-9(][0-9 ()./\-]{5,30}[0-9])",
        r"(?i:phone|tel|fax|mobile|cell)[a-zA-Z. ]*(?: is|[ \t]*[:=#])[ \t]*\+?[0-9(]",
    ),
    _pattern(SOCIAL, _BEFORE + r"([0-8][0-9]{2}-[0-9]{2}-[0-9]{4})" + _AFTER),
    _pattern(
        SOCIAL,
        r"(?i:\bssn|\bsocial security(?: number| no\.?)?)"
        rf"(?: is|//|{_BLANKS}[:=#_]{{1,99}})?{_BLANKS}"
        r"([0-9]{3}[ \-]?[0-9]{2}[ \-]?[0-9]{4})",
        r"(?i:ssn|social security)[a-zA-Z. \t:=#_/]*[0-9]{3}",
    ),
    _pattern(
        RECORD,
        r"(?i:\b(?:mrn|mr ?(?:#|no\b\.?|number)|(?:medical|hospital|patient|health)[ _]"
        r"(?:record[ _])?(?:number|no\b\.?|id|#)|chart (?:number|no\b\.?|#)|unit no\b\.?))"
        rf"(?: is|//|{_BLANKS}[:=#_\-]{{1,99}})?{_BLANKS}"
        r"([A-Za-z]{0,3}-?[0-9]{0,20}[1-9][0-9]{4,20})",
        r"(?i:mrn|mr ?#|mr ?no|mr ?number|record|hospital|patient|health|chart|unit no)"
        r"[a-zA-Z. \t:=#_/\-]*[0-9]{4}",
    ),
    _pattern(
        NAME,
        _HEADER
        + r"(?i:(?:(?:patient'?s?|pt\.?)[ _])?(?:full|first|last|family|given)?[ _]?"
        + r"(?:name|surname))"
        + _IS
        + rf"({_WORD}(?:,?[ \t]{{1,99}}{_WORD}){{1,9}})",
        r"(?i:name)[ \t]*[:=#][:=#. \t]*[A-Z]",
    ),
    _pattern(
        NAME,
        _HEADER + r"(?i:patient|pt\.?)" + _IS + rf"({_WORD},{_BLANKS}{_WORD})",
        r"(?i:patient|pt\.?)[ \t]*[:=#][:=#. \t]*[A-Z][A-Za-z'\-]+,[ \t]*[A-Z]",
    ),
    _pattern(NAME, rf"({_WORD}\^{_WORD})", r"[A-Za-z'\-]\^[A-Z]"),
    _pattern(
        NAME,
        r"(?i:^|//)(?i:(?:patient|pt|subject|person)?[ _]?(?:full|first|last|family|given)?[ _]?"
        r"(?:name|surname))//(.{0,99}[A-Za-z]{2}.{0,99})",
        only_codes=True,
    ),
    _pattern(
        BIRTH,
        r"(?i:\b(?:d\.?o\.?b\.?|date of birth|birth ?date))"
        rf"(?: is|{_BLANKS}[:=])?{_BLANKS}"
        r"([0-9]{1,4}[/.\-][0-9]{1,2}[/.\-][0-9]{2,4})",
        r"(?i:d\.?o\.?b|birth)[a-zA-Z. \t:=]*[0-9]{1,4}[/.\-]",
    ),
    _pattern(
        OLD,
        r"(?:^|[^0-9A-Za-z.])((?:9[0-9]|1[0-2][0-9])[ \-]?"
        r"(?i:y\.?/?o\b|(?:years?|yrs?)(?:[ \-]old\b| of age\b)))",
        r"(?:9[0-9]|1[0-2][0-9])[ \-]?(?i:y)",
    ),
    _pattern(
        OLD,
        rf"(?i:\bage{_BLANKS}[:=]|\baged){_BLANKS}" + r"((?:9[0-9]|1[0-2][0-9])\b)",
        r"(?i:\bage[ \t]*[:=]|\baged)[ \t]*(?:9[0-9]|1[0-2][0-9])",
    ),
)
KINDS = (EMAIL, PHONE, SOCIAL, RECORD, NAME, BIRTH, OLD)
ROUGH = "|".join(f"(?:{pattern.rough})" for pattern in PATTERNS if not pattern.only_codes)
"""Found in every text that any pattern but those of codes finds something in."""


def suspicious(texts: pl.Series) -> pl.Series:
    """The few texts worth a closer look; those without a word are none."""
    return texts.filter(texts.str.contains(ROUGH).fill_null(False))


def identifiers(text: str, *, is_code: bool = False) -> Iterator[tuple[str, str]]:
    """The kinds of identifiers in a text, each once with a masked example.

    Args:
        text: A note, a code, the name of a file.
        is_code: Where a part of a code is called a name, all after it is one.
    """
    told = set()
    for pattern in PATTERNS:
        if (pattern.only_codes and not is_code) or pattern.kind in told:
            continue
        if (match := pattern.found.search(text)) is not None:
            told.add(pattern.kind)
            yield pattern.kind, mask(match[0], match[1])


def mask(whole: str, identifier: str) -> str:
    """What was found, with every letter and digit of the identifier itself hidden.

    A word shows as Aa whatever its length, of a number every digit shows as one mark; what is long
    is cut.
    """
    hidden = re.sub(r"[^\W\d_]+", "Aa", re.sub(r"\d", "#", identifier))
    shown = " ".join(whole.replace(identifier, hidden).split()).strip(" ,;|>.")
    return shown if len(shown) <= LONGEST_EXAMPLE else shown[: LONGEST_EXAMPLE - 1] + "…"
