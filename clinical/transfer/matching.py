"""Which variable or code of a run is which of a bundle."""

from clinical.config_file import load_yaml
from clinical.errors import ConfigError
from clinical.transfer.units import is_convertible, is_same

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WHERE = "finetune.init.mapping"
NAMED = 8
"""Unknown codes that a message lists."""

Words = Mapping[str, Mapping[str, str]]
"""Code -> its `description` and `unit`."""
Mapped = Mapping[str, str | None]
"""Code of the run -> code of the bundle; None for none."""


@dataclass(frozen=True)
class Vocabulary:
    """Of one modality.

    Attributes:
        codes: in the order of the encoder's rows; None stands for all unknown ones.
        words: of the codes, where the extract had any.
        numbers: codes of columns that are numbers, where some are not; None where all are alike.
    """

    codes: Sequence[str | None]
    words: Words = field(default_factory=dict)
    numbers: frozenset[str] | None = None

    def is_number(self, code: str) -> bool | None:
        """None where it is not asked."""
        return None if self.numbers is None else code in self.numbers

    def unit(self, code: str) -> str | None:
        """None where it is not known."""
        return self.words.get(code, {}).get("unit")


@dataclass(frozen=True)
class Matched:
    """What became of one code.

    Attributes:
        code: of the run.
        source: of the bundle; None where it is learned from scratch.
        by: "mapping", "code", "unit and description", "description" (neither has a unit), or ""
            where there is no match.
        note: why there is none, or what the user should know.
    """

    code: str
    source: str | None = None
    by: str = ""
    note: str = ""


def read_mapping(path: Path | None) -> dict[str, str | None]:
    """A user's YAML file, `new code: code of the bundle`, or null for none.

    Raises:
        ConfigError: it can't be read, or an entry is neither.
    """
    if path is None:
        return {}
    raw = load_yaml(path)
    wrong = [str(new) for new, old in raw.items() if not isinstance(old, str | None)]
    if wrong:
        raise ConfigError(
            f"{WHERE}: {path} gives {', '.join(wrong[:NAMED])} no code; write `new code: code of "
            "the bundle` or `new code: null`, codes that look like numbers in quotes"
        )
    return {str(new): old for new, old in raw.items()}


def check_mapping(mapping: Mapped, *, here: Collection[str], bundle: Collection[str]) -> None:
    """Refuse codes that exist nowhere, since a slip of the pen would silently match nothing.

    Raises:
        ConfigError: listing them.
    """
    new = [code for code in mapping if code not in here]
    old = sorted({code for code in mapping.values() if code is not None and code not in bundle})
    problems = [
        f"{len(codes)} {what} ({', '.join(codes[:NAMED])}{', …' if len(codes) > NAMED else ''})"
        for codes, what in (
            (new, "codes that the extract doesn't have"),
            (old, "codes that the bundle hasn't learned"),
        )
        if codes
    ]
    if problems:
        raise ConfigError(
            f"{WHERE}: names {' and '.join(problems)}; correct them, or map a code to null to "
            "learn it from scratch"
        )


def match(ours: Vocabulary, theirs: Vocabulary, mapping: Mapped) -> list[Matched]:
    """By the mapping, else by code, else by unit and description, if that is beyond doubt.

    A code that the mapping names is what it says. One that is called otherwise on each side is not
    the same: local numbers mean what their hospital says. By description nothing is matched twice,
    nor what several on either side are called.

    Args:
        ours, theirs: the same modality of the run and of the bundle.
        mapping: of the user.

    Returns:
        One for each code of ours.
    """
    there = {code for code in theirs.codes if code is not None}
    own = [code for code in ours.codes if code is not None]
    sure = {code: found for code in own if (found := _sure(code, ours, theirs, there, mapping))}
    taken = {each.source for each in sure.values()}
    left = [code for code in own if code not in sure]
    called = _by_words(left, ours)
    known = _by_words([code for code in there if code not in taken], theirs)
    return [
        sure.get(code) or _by_description(code, ours, theirs, called=called, known=known)
        for code in own
    ]


def _sure(
    code: str, ours: Vocabulary, theirs: Vocabulary, there: Collection[str], mapping: Mapped
) -> Matched | None:
    """What the mapping or the code itself says, or forbids; None where they say nothing."""
    by, source = ("mapping", mapping[code]) if code in mapping else ("code", code)
    if source is None:
        return Matched(code, note="the mapping says null")
    if source not in there:
        told = f"the mapping's {source} is of another modality"
        return Matched(code, note=told) if by == "mapping" else None
    if by == "code" and _called_otherwise(code, ours, theirs):
        return None
    if ours.is_number(code) != theirs.is_number(source):
        return Matched(code, note="a number in one extract and a category in the other")
    units = (ours.unit(code), theirs.unit(source))
    if is_convertible(*units):
        differ = "" if is_same(*units) or None in units else f"{units[0]} here, {units[1]} there"
        return Matched(code, source, by, differ)
    told = f"{units[0]} here, {units[1]} there, and no conversion is known"
    return Matched(code, source, by, told) if by == "mapping" else Matched(code, note=told)


def _by_description(
    code: str,
    ours: Vocabulary,
    theirs: Vocabulary,
    *,
    called: Mapping[str, list[str]],
    known: Mapping[str, list[str]],
) -> Matched:
    name = normal(ours.words.get(code, {}).get("description"))
    found = known.get(name, [])
    if not name or not found:
        return Matched(code, note=_called_otherwise(code, ours, theirs))
    if len(found) > 1 or len(called[name]) > 1:
        return Matched(code, note="several are described alike")
    (source,) = found
    if ours.is_number(code) != theirs.is_number(source):
        return Matched(code, note="a number in one extract and a category in the other")
    if not is_same(ours.unit(code), theirs.unit(source)):
        units = [unit or "no unit" for unit in (ours.unit(code), theirs.unit(source))]
        return Matched(code, note=f"described alike, but {units[0]} here and {units[1]} there")
    has_unit = ours.unit(code) is not None
    return Matched(code, source, "unit and description" if has_unit else "description")


def _called_otherwise(code: str, ours: Vocabulary, theirs: Vocabulary) -> str:
    """How a code that both have is called on either side, where these differ; else empty."""
    called = [each.words.get(code, {}).get("description") for each in (ours, theirs)]
    names = [normal(each) for each in called]
    if code not in theirs.codes or not all(names) or names[0] == names[1]:
        return ""
    return f"the same code is {called[0]} here and {called[1]} there"


def _by_words(codes: Collection[str], vocabulary: Vocabulary) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for code in codes:
        found.setdefault(normal(vocabulary.words.get(code, {}).get("description")), []).append(code)
    return found


def normal(description: str | None) -> str:
    """Without case and punctuation."""
    return " ".join(re.findall(r"\w+", (description or "").casefold()))


def rows_of(
    ours: Vocabulary, theirs: Vocabulary, matched: Collection[Matched]
) -> NDArray[np.int64]:
    """[n] for each row of ours that of theirs, -1 for none; unknown is unknown in both."""
    place = {code: row for row, code in enumerate(theirs.codes)}
    source = {each.code: each.source for each in matched}
    found = [
        place.get(None, -1) if code is None else place.get(source[code], -1) if source[code] else -1
        for code in ours.codes
    ]
    return np.array(found, dtype=np.int64)


def counted(matched: Collection[Matched]) -> Counter[str]:
    """How many were matched by what."""
    return Counter(each.by or "from scratch" for each in matched)
