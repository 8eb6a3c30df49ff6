"""The entries of `events` one by one: a melted one for each of its columns."""

from clinical.extract.importers.flat.mapping import EVERY, EventRule, Table
from clinical.extract.importers.flat.templates import Template

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cells:
    """One rule for one column of cells: an entry of `events`, or a melted column of it.

    Attributes:
        path: What the rejects call it.
        rule: The entry.
        melted: The column, for a melted one.
        code: Its template.
    """

    path: str
    rule: EventRule
    melted: str | None
    code: Template

    @property
    def value(self) -> str | None:
        """The column of values."""
        return self.melted or self.rule.value

    @property
    def has_content(self) -> bool:
        """Whether an event of it must say something beyond its code."""
        rule = self.rule
        said = (self.value, rule.category, rule.text, rule.image)
        return any(name is not None for name in said) and not rule.keep_empty


def expand(table: Table, columns: Sequence[str], used: set[str]) -> list[Cells]:
    """Every entry of a table, melted ones once for each of their columns.

    Args:
        table: Its rules.
        columns: Of the table's files.
        used: Columns that something else than a melting names.
    """
    found = []
    for number, rule in enumerate(table.events):
        path = f"events.{number}"
        if not rule.melt:
            found.append(Cells(path, rule, None, rule.code_template))
            continue
        named = {name for other in table.events for name in other.melt}
        rest = [name for name in columns if name not in used | named | set(rule.without)]
        wanted = [n for name in rule.melt for n in (rest if name == EVERY else [name])]
        found += [Cells(f"{path}: {n}", rule, n, rule.code_template) for n in wanted]
    return found
