"""Prediction times by rule: some hours after an event, once or again and again during the stay."""

from clinical.cohort.window import prediction_times
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.extract.tables import SAMPLES, collect

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import polars as pl

logger = logging.getLogger(__name__)

HOURS = {"min": 1 / 60, "h": 1.0, "d": 24.0, "w": 168.0}
ENDS = ("HOSPITAL_DISCHARGE", "MEDS_DEATH")
"""Codes that end any stay."""

REGEX = "regex:"
"""What marks a regular expression: without it a unit's name in brackets would not match itself."""

_SPAN = r"(\d+(?:\.\d+)?)\s*(min|h|d|w)"
_AT = re.compile(rf"(?P<anchor>.*?\S)\s*(?:\+\s*{_SPAN})?\s*")

_LEFT_OVER = re.compile(r"\s[+-]\s*(?:\d[\d.]*\s*\w*)?$|\+\s*\d")
"""Of a time that could not be read, such as one before the anchor."""


@dataclass(frozen=True)
class TimeRule:
    """When to predict, said by events.

    A code stands for itself and, as MEDS names codes, for all that begin with it and `//`; after
    `regex:` it is a regular expression of such. A stay begins at each event of the anchor and ends
    at the first later one that ends it, or at the next anchor.

    Attributes:
        anchor: Code at which the clock starts.
        after_hours: From there to the first prediction time.
        every_hours: From one to the next while the stay lasts; None predicts once.
        ends: Codes that end a stay.
        are_ends_given: By the user: then each has to be there.
    """

    anchor: str
    after_hours: float = 0.0
    every_hours: float | None = None
    ends: tuple[str, ...] = ENDS
    are_ends_given: bool = False

    @classmethod
    def parse(cls, at: str, *, every: str | None = None, until: Sequence[str] = ()) -> Self:
        """Read what a user writes.

        Args:
            at: Such as "ICU_ADMISSION + 48h"; min, h, d and w are known.
            every: Such as "6h".
            until: Codes that end a stay; by default ICU_DISCHARGE where the anchor is
                ICU_ADMISSION or ICU_ADMISSION//MICU (and so for other names: whoever goes on to
                another unit leaves from there), HOSPITAL_DISCHARGE and MEDS_DEATH.

        Raises:
            ConfigError: It cannot be read.
        """
        found = _AT.fullmatch(at.strip())
        if found is None or _LEFT_OVER.search(found["anchor"]):
            raise ConfigError(
                f'at: {at!r} is no code with a time after it; write it as "ICU_ADMISSION + 48h" '
                "(min, h, d or w), or as a code alone"
            )
        anchor, number, unit = found["anchor"], *found.groups()[1:]
        after = float(number) * HOURS[unit] if number else 0.0
        asked = tuple(code.strip() for code in until)
        for code in (anchor, *asked):
            _check_pattern(code)
        ends, step = asked or _usual_ends(anchor), None if every is None else _hours(every)
        return cls(anchor, after, step, ends, bool(asked))

    def samples(self, extract: Extract) -> pl.DataFrame:
        """The samples of an extract, one shard read after the other.

        Returns:
            `subject_id, prediction_time`, sorted.

        Raises:
            SchemaError: No event is an anchor, or one of the ends that the user gave, or every
                stay has ended by then.
        """
        parts, n_stays, absent = [SAMPLES.empty()], 0, set(self.ends)
        for shard in extract.shards:
            dated = extract.scan(shard).filter(pl.col("time").is_not_null())
            events = collect(dated.select("subject_id", "time", "code"), where=shard)
            codes = events.select(pl.col("code").unique())
            absent -= {end for end in absent if codes.select(is_code(end).any()).item()}
            stays = self._stays(events)
            n_stays += stays.height
            times = prediction_times(
                stays, after_hours=self.after_hours, every_hours=self.every_hours
            )
            parts.append(SAMPLES.read_types(times.lazy(), where="at").collect())
        found = pl.concat(parts).sort("subject_id", "prediction_time")
        self._say(n_stays, absent, found)
        return found

    def _stays(self, events: pl.DataFrame) -> pl.DataFrame:
        """`subject_id, anchor, end, last`, one row an anchor."""
        anchors = events.filter(is_code(self.anchor)).select("subject_id", anchor="time").unique()
        ending = events.filter(pl.any_horizontal(is_code(code) for code in self.ends))
        ends = pl.concat(
            [
                ending.select("subject_id", end="time"),
                anchors.select("subject_id", end="anchor"),
            ]
        ).unique()
        later = anchors.join(ends, on="subject_id").filter(pl.col("end") > pl.col("anchor"))
        first = later.group_by("subject_id", "anchor").agg(pl.col("end").min())
        last = events.group_by("subject_id").agg(last=pl.col("time").max())
        with_end = anchors.join(first, on=["subject_id", "anchor"], how="left")
        return with_end.join(last, on="subject_id", how="left")

    def _say(self, n_stays: int, absent: set[str], samples: pl.DataFrame) -> None:
        if not n_stays:
            raise SchemaError(_unknown("at", self.anchor))
        if self.are_ends_given and absent:
            raise SchemaError(_unknown("until", min(absent)))
        if self.ends[0] in absent and self.ends[0] not in ENDS:
            logger.warning(
                "samples: no dated event has the code %s, so that a stay lasts until %s, or the "
                "next that begins with %s; say until what else",
                self.ends[0],
                " or ".join(self.ends[1:]),
                self.anchor,
            )
        if samples.is_empty():
            raise SchemaError(
                f"at: all {n_stays:,} stays that begin with {self.anchor} have ended "
                f"{self.after_hours:g} hours later; predict earlier, or say what ends a stay"
            )
        logger.info(
            "samples: %s by rule, of %s stays that begin with %s",
            f"{samples.height:,}",
            f"{n_stays:,}",
            self.anchor,
        )


def is_code(code: str) -> pl.Expr:
    """Whether a `code` is this one, or begins with it and `//`."""
    column = pl.col("code")
    if code.startswith(REGEX):
        return column.str.contains(f"^(?:{code.removeprefix(REGEX)})(?://.*)?$")
    return (column == code) | column.str.starts_with(f"{code}//")


def _usual_ends(anchor: str) -> tuple[str, ...]:
    """By its first component, which says of what it is the beginning.

    Raises:
        ConfigError: It is an admission, and that it is to what does not begin the pattern.
    """
    if anchor.startswith(REGEX):
        first = re.split(r"\W", anchor.removeprefix(REGEX), maxsplit=1)[0]
        if "ADMISSION" in anchor and "ADMISSION" not in first:
            raise ConfigError(
                f"at: what ends a stay that begins with {anchor} cannot be told; say it with until"
            )
    else:
        first = anchor.partition("//")[0]
    own = first.replace("ADMISSION", "DISCHARGE")
    return tuple(dict.fromkeys((*((own,) if own != first else ()), *ENDS)))


def _unknown(what: str, code: str) -> str:
    if code.startswith(REGEX):
        found = f"a code that matches {code.removeprefix(REGEX)}"
    else:
        found = f"the code {code}, nor one that begins with it and //"
    hint = "" if code.startswith(REGEX) else f" (a regular expression begins with {REGEX})"
    return (
        f"{what}: no dated event of the extract has {found}; see metadata/codes.parquet for its "
        f"codes{hint}"
    )


def _hours(span: str) -> float:
    found = re.fullmatch(_SPAN, span.strip())
    hours = float(found[1]) * HOURS[found[2]] if found else 0.0
    if not hours:
        raise ConfigError(f'every: {span!r} is no time above 0; write it as "6h" (min, h, d or w)')
    return hours


def _check_pattern(code: str) -> None:
    try:
        pl.DataFrame({"code": [""]}).select(is_code(code))
    except pl.exceptions.ComputeError:
        pattern = code.removeprefix(REGEX)
        raise ConfigError(f"{code}: {pattern} is no regular expression; check it") from None
