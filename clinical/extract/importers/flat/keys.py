"""What keys of a mapping hold: columns, words, times and conditions."""

from clinical.extract.importers.flat.templates import Template
from clinical.extract.privacy import KINDS
from clinical.sections import Section

import codecs
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Annotated, Any, Self

import polars as pl
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

SPANS = ("seconds", "minutes", "hours", "days", "years", "clock", "hhmmss")
"""What says how far an event is from its anchor."""

YEARS = (1800, 2300)
"""Wide enough for calendars that were shifted to hide the dates."""

_LETTERS = "YymbBhdejDFaAHkIlpPMSfRTrs%"

_SOURCES = ("column", "date", "day", "latest", "after", "before")

Use = tuple[str, str]
"""The path of a key and a column that it names."""


def _template(text: str) -> str:
    Template.parse(text)
    return text


def _regex(text: str) -> str:
    try:
        re.compile(text)
        pl.Series([""]).str.contains(text)
    except (re.error, pl.exceptions.ComputeError):
        raise ValueError("is no regular expression, or looks around, which is not known") from None
    return text


def _format(text: str) -> str:
    if re.search("%[:#]?[zZ]", text):
        raise ValueError(
            "has a zone; times in ISO 8601 may have one, with time_zone: in the mapping"
        )
    # Polars reads nothing by a letter that it doesn't know, and doesn't say so.
    letters = re.findall(r"%[-_0]?(\.?\d?f|.)", text)
    if not letters or any(letter[-1] not in _LETTERS for letter in letters):
        raise ValueError("is no format of times; write it like %d.%m.%Y %H:%M:%S")
    return text


def _encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError("there is no encoding of this name; usual are utf-8, latin-1") from None
    return name


def _is_kind(name: str) -> str:
    if name not in KINDS:
        raise ValueError(f"there is no such kind of identifier; known are {', '.join(KINDS)}")
    return name


def _column(value: Any) -> Any:
    """`{name}` is as good as `name` where a column is asked for."""
    found = re.fullmatch(r"\{([^{}|]+)\}", value) if isinstance(value, str) else None
    return found[1].strip() if found else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_rules(value: Any) -> Any:
    """One rule, or several of which the first that gives a time counts."""
    return [_as_rule(item) for item in (value if isinstance(value, list) else [value])]


def _as_rule(value: Any) -> Any:
    if isinstance(value, date):
        return {"day": value}
    return {"column": value} if isinstance(value, str) else value


def _cell_text(value: Any) -> str | None:
    if isinstance(value, bool):
        raise ValueError("yes, no, true and false are no texts in YAML; write them in quotes")
    return None if value is None else str(value)


def _as_condition(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value
    return {"among": value}


def _cell_texts(value: Any) -> Any:
    return [_cell_text(item) for item in (value if isinstance(value, list) else [value])]


def _as_names(value: Any) -> Any:
    """Columns by the names they have; or, where that is a mapping, by the names they get."""
    names = [value] if isinstance(value, str) else value
    return {name: name for name in names} if isinstance(names, list) else names


def _replacements(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {_cell_text(old): _cell_text(new) for old, new in value.items()}


Names = Annotated[dict[str, str], BeforeValidator(_as_names), Field(min_length=1)]
Replacements = Annotated[dict[str, str | None], BeforeValidator(_replacements)]
Column = Annotated[str, BeforeValidator(_column)]
Words = Annotated[str, AfterValidator(_template)]
Pattern = Annotated[str, AfterValidator(_regex)]
Encoding = Annotated[str, AfterValidator(_encoding)]
Formats = Annotated[tuple[Annotated[str, AfterValidator(_format)], ...], BeforeValidator(_as_list)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Cells = Annotated[tuple[str | None, ...], BeforeValidator(_cell_texts)]
Kinds = tuple[Annotated[str, AfterValidator(_is_kind)], ...]
Span = Annotated[str | float, BeforeValidator(_column)]


class TimeRule(Section):
    """Where a time stands. A date alone is the end of its day; as an anchor, the start of it."""

    column: Words | None = None
    """A column of times, or a template of several: `"{date} {clock}"`."""
    date: Column | None = None
    """A column of days that are written as times at midnight."""
    day: datetime | None = None
    """A day, the same for all."""
    latest: "Times | None" = None
    """Several times, of which the latest counts: what is known only when all have come."""
    formats: Formats = ()
    """Of the column, as strftime has them; else those of the mapping."""
    after: "Times | None" = None
    before: "Times | None" = None
    seconds: Span | None = None
    minutes: Span | None = None
    hours: Span | None = None
    days: Span | None = None
    years: Span | None = None
    clock: Column | None = None
    """Hours and minutes, `7:30` or `7:30:00`; more than 24 hours are days."""
    hhmmss: Column | None = None
    """The same as a number: 73000.5 is 7:30:00.5."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in _SOURCES if self._has(key)]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(_SOURCES)}")
        if self.latest is not None and len(self.latest) < 2:
            raise ValueError("latest: is the latest of several times; name two or more")
        spans = [key for key in SPANS if self._has(key)]
        if (given[0] in ("after", "before")) != (len(spans) == 1) or len(spans) > 1:
            raise ValueError(f"after and before go with one of {', '.join(SPANS)}")
        if self.formats and self.column is None:
            raise ValueError("formats goes with column")
        return self

    def _has(self, key: str) -> bool:
        return getattr(self, key) is not None

    @property
    def anchor(self) -> "tuple[TimeRule, ...]":
        """What it is counted from; nothing for a time of its own."""
        return self.after or self.before or ()

    @property
    def span(self) -> tuple[str, str | float] | None:
        """The unit of the distance from the anchor, with its column or number."""
        return next(((key, getattr(self, key)) for key in SPANS if self._has(key)), None)

    def uses(self, path: str) -> Iterator[Use]:
        """The columns it names."""
        if self.column is not None:
            yield from ((f"{path}.column", name) for name in column_or_template(self.column))
        if self.date is not None:
            yield f"{path}.date", self.date
        for rule in self.latest or ():
            yield from rule.uses(f"{path}.latest")
        for rule in self.anchor:
            yield from rule.uses(f"{path}.{'after' if self.after else 'before'}")
        if self.span and isinstance(self.span[1], str):
            yield f"{path}.{self.span[0]}", self.span[1]


Times = Annotated[tuple[TimeRule, ...], BeforeValidator(_as_rules), Field(min_length=1)]


def column_or_template(text: str) -> tuple[str, ...]:
    """A plain name is a column; with braces it is a template of columns."""
    return Template.parse(text).columns or (text,)


class Condition(Section):
    """What a cell must be; of several keys all must hold. Null is an empty cell."""

    among: Cells | None = None
    none_of: Cells | None = None
    matches: Pattern | None = None
    """A regular expression, found anywhere in the cell."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.among is None and self.none_of is None and self.matches is None:
            raise ValueError("give a cell, a list of cells, {none_of: ...} or {matches: ...}")
        return self


Where = dict[str, Annotated[Condition, BeforeValidator(_as_condition)]]
