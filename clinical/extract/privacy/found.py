"""What a search for identifiers found: counts and masked examples, and whether it is too much."""

from clinical.errors import SchemaError
from clinical.extract.privacy.patterns import OLD

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

CODES = "codes"
NOTES = "notes"
FILE_NAMES = "names of image files"
HEADERS = "DICOM headers"
SUBJECTS = "subjects"

MOST_EXAMPLES = 3
LEAST_IN_CATEGORY = 3
"""Subjects over 89, most of all such, who share a year of age: it is a category, as 91 of MIMIC-IV.
Of people as they are fewer than a third are 90 among those over 89."""
TOLERATED = 0.001
"""Share of the notes, files or subjects: so many are found in text that has none."""
TOLERATED_OLD = 0.01
"""The same of ages over 89: as many transcriptions of MTSamples say one."""


@dataclass(frozen=True)
class Found:
    """One kind of identifier in one kind of place.

    Attributes:
        place: Where.
        kind: What it looks like.
        count: How many codes, notes, files or subjects have it.
        scanned: Of how many.
        examples: Masked, so that no letter and no digit of an identifier is in them.
    """

    place: str
    kind: str
    count: int
    scanned: int
    examples: tuple[str, ...] = ()

    @property
    def is_too_many(self) -> bool:
        """Whether it is more than open, de-identified data have by chance; of codes, any is."""
        if self.place == CODES:
            return self.count > 0
        return self.count > (TOLERATED_OLD if self.kind == OLD else TOLERATED) * self.scanned

    @property
    def words(self) -> str:
        """For people."""
        such = f", such as {self.examples[0]}" if self.examples else ""
        return f"{self.kind}: {self.count:,} of {self.scanned:,} {self.place}{such}"


@dataclass(frozen=True)
class Identifiers:
    """Everything in an extract that looks like a direct identifier of somebody.

    Attributes:
        scanned: How many of each place were looked at; all that there are.
        found: Each kind in each place, where there is one.
        acknowledged: Kinds that the mapping of the source says may be there.
    """

    scanned: dict[str, int]
    found: tuple[Found, ...]
    acknowledged: tuple[str, ...] = ()

    def too_many(self) -> tuple[Found, ...]:
        """What has to be removed or acknowledged, and is not acknowledged yet."""
        known = set(self.acknowledged)
        return tuple(one for one in self.found if one.is_too_many and one.kind not in known)

    def counts(self) -> dict[str, int]:
        """What was found in words, for a table of counts."""
        return {
            f"what looks like identifiers, {one.place}: {one.kind}": one.count for one in self.found
        }

    def refuse(self, *, remedy: str) -> None:
        """Stop where there is too much.

        Raises:
            SchemaError: With counts and masked examples.
        """
        if too_many := self.too_many():
            told = "\n  ".join(one.words for one in too_many)
            raise SchemaError(f"what looks like direct identifiers of people:\n  {told}\n{remedy}")

    def write(self, path: Path) -> None:
        """As JSON: `{"scanned": {}, "acknowledged": [], "found": [{"place": ..., ...}]}`."""
        content = {
            "scanned": self.scanned,
            "acknowledged": self.acknowledged,
            "found": [vars(one) for one in self.found],
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Identifiers":
        """What `write` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        found = (Found(**{**one, "examples": tuple(one["examples"])}) for one in content["found"])
        return cls(content["scanned"], tuple(found), tuple(content["acknowledged"]))


@dataclass
class Tally:
    """Counts that grow, of a shard or of all."""

    scanned: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    ages: Counter[int] = field(default_factory=Counter)
    """Subjects by their whole years of age, of those over 89."""
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def note(self, place: str, found: Iterable[tuple[str, str]]) -> None:
        """Count what one code, note, file or subject has, as (kind, masked example or nothing)."""
        for kind, example in found:
            self.counts[place, kind] += 1
            self._show((place, kind), example)

    def _show(self, key: tuple[str, str], example: str) -> None:
        shown = self.examples.setdefault(key, [])
        if example and example not in shown and len(shown) < MOST_EXAMPLES:
            shown.append(example)

    def add(self, other: "Tally") -> None:
        """Take in the counts of another shard."""
        self.scanned.update(other.scanned)
        self.counts.update(other.counts)
        self.ages.update(other.ages)
        for key, examples in other.examples.items():
            for example in examples:
                self._show(key, example)

    def result(self) -> Identifiers:
        """What was found, in the order of the places and kinds."""
        if n_old := self.ages.total() - self._n_in_category():
            self.counts[SUBJECTS, OLD] = n_old
        found = tuple(
            Found(
                place, kind, count, self.scanned[place], tuple(self.examples.get((place, kind), ()))
            )
            for (place, kind), count in sorted(self.counts.items())
        )
        return Identifiers(dict(sorted(self.scanned.items())), found)

    def _n_in_category(self) -> int:
        """Subjects of the one age that stands for all over 89, if the extract has such a one."""
        count = max(self.ages.values(), default=0)
        return count if count >= LEAST_IN_CATEGORY and 2 * count > self.ages.total() else 0
