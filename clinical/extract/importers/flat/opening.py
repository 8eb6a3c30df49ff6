"""A mapping held against the files of a source, before any row is read."""

from clinical.errors import ConfigError
from clinical.extract.importers.flat.cell_rules import Cells, expand
from clinical.extract.importers.flat.keys import Use
from clinical.extract.importers.flat.mapping import (
    EventRule,
    LabelRule,
    MappingConfig,
    SampleRule,
    Table,
)
from clinical.extract.importers.flat.rows import added_columns
from clinical.extract.importers.flat.source import Source

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
"""Of what an interrupted import leaves."""
Rule = EventRule | LabelRule | SampleRule


@dataclass(frozen=True)
class OpenedTable:
    """A table with its files.

    Attributes:
        name: In the mapping.
        rule: Its part of the mapping.
        source: Its files.
        columns: Those of its files that are read.
        cells: Its rules for events.
    """

    name: str
    rule: Table
    source: Source
    columns: tuple[str, ...]
    cells: tuple[Cells, ...]

    @property
    def n_bytes(self) -> int:
        """About how much text its files hold."""
        packed = sum(
            f.path.stat().st_size for f in self.source.files if f.path.suffix in (".gz", ".parquet")
        )
        return self.source.n_bytes + 7 * packed


def open_lookups(source: Path, config: MappingConfig) -> dict[str, Source]:
    """Every lookup that a table asks, as far as its header."""
    used = {name for table in config.used_tables.values() for name in table.join}
    return {
        name: Source.open(source, rule, config)
        for name, rule in config.lookups.items()
        if name in used
    }


def made_from(
    config: MappingConfig, tables: Sequence[OpenedTable], lookups: Mapping[str, Source]
) -> dict[str, Any]:
    """What an import is made from: if equal, so are extracts, as far as times of files tell."""
    opened = [table.source for table in tables] + list(lookups.values())
    files = [[file.path for file in (*one.files, *one.empty)] for one in opened]
    states = [[(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in part] for part in files]
    return {"format": FORMAT, "mapping": config.model_dump(mode="json"), "files": states}


def open_tables(source: Path, config: MappingConfig, *, where: str) -> list[OpenedTable]:
    """Every table with its files, none of which is read further than its header.

    Raises:
        ConfigError: Columns that aren't there, or no table is.
    """
    opened, problems = [], []
    for name, rule in config.used_tables.items():
        files = Source.open(source, rule, config)
        added = added_columns(rule, config)
        uses = list(_uses(name, rule, config))
        if files.files:
            problems += files.problems(uses, others=added)
            problems += files.problems(_uses_of_files(name, rule))
            problems += _literals(name, rule, [*files.columns, *added])
            problems += [
                f"tables.{name}: column {column} is in the files and added too; rename it"
                for column in dict.fromkeys(added)
                if column in files.columns
            ]
        elif name in config.split_together and config.splits is not None:
            # Without it a person could be in two splits, and nobody would notice.
            problems.append(f"split_together.{name}: the source has no such table; set splits=null")
        used = {column for _, column in (*uses, *_uses_of_files(name, rule))}
        cells = expand(rule, files.columns, used)
        wanted = used | {c.melted for c in cells if c.melted is not None}
        read = tuple(column for column in files.columns if column in wanted)
        opened.append(OpenedTable(name, rule, files, read, tuple(cells)))
    if problems:
        raise ConfigError(f"{where}: {len(problems)} problems\n  " + "\n  ".join(problems))
    if not any(table.source.files for table in opened):
        raise ConfigError(f"source: {source} has no file of any table of {where}; check both")
    return opened


def _uses(name: str, table: Table, config: MappingConfig) -> Iterator[Use]:
    """Every column that a table's rules name."""
    path = f"tables.{name}"
    yield f"{path}.subject", table.subject or config.subject or ""
    if name in config.split_together:
        yield f"split_together.{name}", config.split_together[name]
    yield from ((f"{path}.where", column) for column in table.where)
    yield from ((f"{path}.split", column) for column in table.split)
    for lookup, keys in table.join.items():
        yield from ((f"{path}.join.{lookup}", key) for key in keys)
    for key, rule in _rules(table):
        yield from rule.uses(f"{path}.{key}")
        for time in table.time_of(rule) or ():
            yield from time.uses(f"{path}.{key}.time")


def _uses_of_files(name: str, table: Table) -> Iterator[Use]:
    """Columns that only the files can give, as they are read before any is added."""
    for key in ("replace", "parse"):
        yield from ((f"tables.{name}.{key}", column) for column in getattr(table, key))


def _rules(table: Table) -> Iterator[tuple[str, Rule]]:
    yield from ((f"events.{n}", event) for n, event in enumerate(table.events))
    yield from ((f"labels.{task}", label) for task, label in table.labels.items())
    if table.samples is not None:
        yield "samples", table.samples


def _literals(name: str, table: Table, columns: Sequence[str]) -> Iterator[str]:
    """Words that are a column's name: a template without its braces."""
    for number, event in enumerate(table.events):
        for key in ("code", "unit", "image", "description", "parent"):
            if (text := getattr(event, key)) in columns:
                path = f"tables.{name}.events.{number}.{key}"
                yield f"{path}: {text} is a column; write {{{text}}} for its cells"
