"""The mapping of a relational extract to MEDS, as a user writes it in YAML.

A table's rows become events, labels or samples. Keys that pick cells (`subject`, `value`, `text`,
`category`, times, conditions) take a column's name; keys that make words (`code`, `unit`,
`description`, `parent`, `image`) take a template, in which `{column}` is a cell and
`{column|default}` one with words for an empty cell. docs/bring_your_own.md explains every key.
"""

from clinical.config_file import load_yaml, override, problems
from clinical.errors import ConfigError
from clinical.extract.importers.flat.keys import (
    YEARS,
    Column,
    Encoding,
    Formats,
    Kinds,
    Names,
    Pattern,
    Replacements,
    Texts,
    TimeRule,
    Times,
    Use,
    Where,
    Words,
)
from clinical.extract.importers.flat.templates import Template
from clinical.sections import Section

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

import meds
from pydantic import AfterValidator, Field, ValidationError, model_validator

MELTED = "column"
"""In the template of a melted entry's code, the name of the cell's column."""
UNIT = "unit"
"""In a template of an entry that has a unit, the unit after conversion."""
EVERY = "*"
Year = Annotated[int, Field(ge=1, le=9999)]


class UnitRule(Section):
    """A value in `unit` becomes `(value + add) * multiply / divide`, in the unit `to`."""

    unit: Texts
    to: str
    codes: Texts = ()
    """Only for codes that match one of these regular expressions as a whole."""
    add: float = 0.0
    multiply: float = 1.0
    divide: Annotated[float, Field(gt=0)] = 1.0


class EventRule(Section):
    """One event for each row, or for each melted cell of it."""

    code: Words | None = None
    time: Times | None = None
    """The table's, unless given; null is a static event."""
    value: Column | None = None
    category: Column | None = None
    """Where there is no number, this cell becomes the last part of the code."""
    unit: Words | None = None
    text: Column | None = None
    image: Words | None = None
    """Of a file within the source, copied into the extract."""
    description: Words | None = None
    parent: Words | None = None
    """A code that this one is a case of, such as `ICD9CM/{icd9_code}`."""
    where: Where = Field(default_factory=dict)
    melt: Texts = ()
    """Columns, each of which becomes a code; `*` is every column that nothing else uses."""
    without: Texts = ()
    """Columns that `melt: "*"` leaves out."""
    once: bool = False
    """A row that repeats an event of its subject and time counts once."""
    first_of: Annotated[str, Field(min_length=1)] | None = None
    """Of all events of a subject that have the same word here, the first counts."""
    keep_empty: bool = False
    """Keep a row whose value, category and text are all empty, as a code alone."""

    @model_validator(mode="after")
    def _is_long_or_wide(self) -> Self:
        if not self.melt and self.code is None:
            raise ValueError("needs code:, such as HR or LAB//{itemid}")
        if self.melt and self.value is not None:
            raise ValueError("melt: the cells are the values; take value out")
        if self.without and EVERY not in self.melt:
            raise ValueError('without: goes with melt: "*"')
        return self

    @property
    def code_template(self) -> Template:
        """Of a melted entry without one, the name of the column."""
        return Template.parse(self.code if self.code is not None else f"{{{MELTED}}}")

    def uses(self, path: str) -> Iterator[Use]:
        """The columns it names, but for its time's."""
        for key in ("code", "unit", "image", "description", "parent"):
            names = Template.parse(getattr(self, key) or "").columns
            own = {MELTED} if self.melt else set()
            own |= {UNIT} if self.unit is not None and key != "unit" else set()
            yield from ((f"{path}.{key}", name) for name in names if name not in own)
        for key in ("value", "category", "text"):
            if (name := getattr(self, key)) is not None:
                yield f"{path}.{key}", name
        yield from ((f"{path}.where", name) for name in self.where)
        yield from ((f"{path}.melt", name) for name in self.melt if name != EVERY)


class LabelRule(Section):
    """A label for each row, in the columns of MEDS' label schema."""

    time: Times | None = None
    """The prediction time; the table's time unless given."""
    boolean: Column | Annotated[Where, Field(min_length=1)] | None = None
    """A column of yes and no; or a condition as in `where`, which is answered."""
    integer: Column | None = None
    number: Column | None = None
    category: Column | None = None
    where: Where = Field(default_factory=dict)
    drop_conflicts: bool = False
    """Labels of one subject and time that differ are left out, instead of refused."""

    @model_validator(mode="after")
    def _has_a_value(self) -> Self:
        if not self.columns and not isinstance(self.boolean, dict):
            raise ValueError("give a column as boolean, integer, number or category")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """MEDS' column of each column that is read."""
        found = {
            "boolean_value": None if isinstance(self.boolean, dict) else self.boolean,
            "integer_value": self.integer,
            "float_value": self.number,
            "categorical_value": self.category,
        }
        return {name: column for name, column in found.items() if column is not None}

    def uses(self, path: str) -> Iterator[Use]:
        """The columns it names, but for its time's."""
        yield from ((path, column) for column in self.columns.values())
        if isinstance(self.boolean, dict):
            yield from ((f"{path}.boolean", name) for name in self.boolean)
        yield from ((f"{path}.where", name) for name in self.where)


class SampleRule(Section):
    """A prediction time for each row."""

    time: Times | None = None
    where: Where = Field(default_factory=dict)

    def uses(self, path: str) -> Iterator[Use]:
        """The columns it names, but for its time's."""
        yield from ((f"{path}.where", name) for name in self.where)


class FileRule(Section):
    """Files of one shape, and how their text is read."""

    files: Texts
    """Patterns relative to the source; `{name}` matches within a name and becomes a column. A
    pattern for X.csv finds X.csv.gz and X.parquet as well."""
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    """Else by the name: | of .psv, tab of .tsv, comma."""
    encoding: Encoding = "utf-8"
    decimal: Literal[".", ","] = "."
    missing: Texts | None = None
    """Cells that say nothing; else those of the mapping."""
    header: tuple[str, ...] | None = None
    """Names of the columns of files that have none."""
    replace: dict[str, Replacements] = Field(default_factory=dict)
    """For a column: cells and what to read instead; cells that are not listed stay."""


class Lookup(FileRule):
    """A table from which others take columns by a key, such as a dictionary of items."""

    key: Texts
    columns: Names
    """Those that others take; `{label: item_label}` gives one another name."""
    keep: Literal["only", "first", "least", "greatest"] = "only"
    """Of several rows with a key, of which the columns say something: none may be, or the first
    counts, or the one whose first column is the least or greatest number."""


class Table(FileRule):
    """Rows and what becomes of them."""

    subject: Column | None = None
    time: Times | None = None
    where: Where = Field(default_factory=dict)
    join: dict[str, Texts] = Field(default_factory=dict)
    """For a lookup: the columns here that hold its key."""
    parse: dict[str, Pattern] = Field(default_factory=dict)
    """For a column: a regular expression whose named groups become columns."""
    split: dict[str, str] = Field(default_factory=dict)
    """For a column: what separates the several cells within a cell; each becomes a row."""
    events: tuple[EventRule, ...] = ()
    labels: dict[str, LabelRule] = Field(default_factory=dict)
    samples: SampleRule | None = None

    @model_validator(mode="after")
    def _gives_something(self) -> Self:
        if not self.events and not self.labels and self.samples is None:
            raise ValueError("gives nothing; add events:, labels: or samples:")
        for column, pattern in self.parse.items():
            if not re.compile(pattern).groupindex:
                raise ValueError(f"parse.{column}: name a group in it, (?P<name>...)")
        for name, label in self.labels.items():
            if re.fullmatch(r"[\w-][\w.-]*", name) is None:
                raise ValueError(f"labels.{name}: names a folder; use letters, digits, _ and -")
            if self.time_of(label) is None:
                raise ValueError(f"labels.{name}: has no time, nor has the table; add time:")
        if self.samples is not None and self.time_of(self.samples) is None:
            raise ValueError("samples: has no time, nor has the table; add time:")
        return self

    def time_of(self, rule: EventRule | LabelRule | SampleRule) -> tuple[TimeRule, ...] | None:
        """The rule's own time, which may be none at all, or else the table's."""
        return rule.time if "time" in rule.model_fields_set else self.time


def _is_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("is no time zone; write it like Europe/Zurich") from None
    return name


class MappingConfig(Section):
    """A whole extract."""

    name: str = Field(min_length=1)
    license: str | None = None
    subject: Column | None = None
    """The subject's column in tables that don't name theirs."""
    subject_ids: Literal["integer", "hash"] = "integer"
    """Ids that are text become a hash of 52 bits; integers stay."""
    time_formats: Formats = ()
    """Tried before ISO 8601."""
    time_zone: Annotated[str, AfterValidator(_is_zone)] | None = None
    """Times with a zone or an offset are put into this zone; without it they are refused."""
    years: tuple[Year, Year] = YEARS
    """The first and the last; times outside them are mistyped, and left out."""
    consistent_calendar: bool = False
    missing: Texts = ()
    """Cells that say nothing, beside empty ones and NaN."""
    ignore_case: bool = False
    """Of files' and columns' names: mapped names are then lower-case."""
    keep_impossible: bool = False
    """Keep values outside the plausible range of their code."""
    acknowledge_identifiers: bool | Kinds = False
    """Write the extract even if it has what looks like identifiers of people; in a list are kinds
    that the source has by its design, which may be trained on, too."""
    splits: dict[str, float] | None = Field(
        default_factory=lambda: {"train": 0.7, "tuning": 0.15, "held_out": 0.15}
    )
    """Shares by a hash of the subject; null writes none."""
    split_together: dict[str, Column] = Field(default_factory=dict, max_length=1)
    """A table and its column: subjects that share a cell of it are in one split."""
    units: tuple[UnitRule, ...] = ()
    lookups: dict[str, Lookup] = Field(default_factory=dict)
    tables: dict[str, Table | None] = Field(min_length=1)
    """One that is null is switched off."""

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> "MappingConfig":
        """Read a YAML file and apply `key=value` overrides.

        Raises:
            ConfigError: With every problem at once, each with the path of its key.
        """
        raw = override(load_yaml(path), overrides)
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            found = "\n".join(f"  {problem}" for problem in problems(error, cls))
            raise ConfigError(f"{path}:\n{found}") from None

    @property
    def used_tables(self) -> dict[str, Table]:
        """Those that are not switched off."""
        return {name: table for name, table in self.tables.items() if table is not None}

    @property
    def words(self) -> list[str]:
        """Those of which a subject's first event counts, in every process in this order."""
        events = (event for table in self.used_tables.values() for event in table.events)
        return sorted({event.first_of for event in events if event.first_of is not None})

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, table in self.used_tables.items():
            for lookup, keys in table.join.items():
                if lookup not in self.lookups:
                    raise ValueError(f"tables.{name}.join: there is no lookup {lookup}")
                if len(keys) != len(self.lookups[lookup].key):
                    raise ValueError(f"tables.{name}.join.{lookup}: its key has other columns")
            if table.subject is None and self.subject is None:
                raise ValueError(f"tables.{name}: has no subject, nor has the mapping; add one")
        for name in self.split_together if self.splits is not None else ():
            if name not in self.used_tables:
                raise ValueError(f"split_together: there is no table {name}, or it is switched off")
        return self

    @model_validator(mode="after")
    def _years_are_in_order(self) -> Self:
        if self.years[0] > self.years[1]:
            raise ValueError("years: the first is after the last")
        return self

    @model_validator(mode="after")
    def _shares_are_whole(self) -> Self:
        known = (meds.train_split, meds.tuning_split, meds.held_out_split)
        if self.splits is not None:
            if unknown := [name for name in self.splits if name not in known]:
                raise ValueError(f"splits: {', '.join(unknown)} is none of {', '.join(known)}")
            if min(self.splits.values()) < 0 or abs(sum(self.splits.values()) - 1) > 1e-9:
                raise ValueError("splits: the shares should be positive and sum to 1")
        return self
