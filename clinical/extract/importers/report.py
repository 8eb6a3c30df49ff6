"""What an importer tells about its work, and what every importer looks like."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ImportReport:
    """Counts of an import, for a table.

    Attributes:
        dataset_name: As written to `dataset.json`.
        counts: What was read, written and left out, in words, in the order to print.
        rejected: Impossible values by code, with the range that they broke.
        tables: Those whose counts begin with their name and a colon, shown as a table.
    """

    dataset_name: str
    counts: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict)
    tables: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, int]]:
        """Every count with its words, ready to print."""
        return [*self.counts.items(), *(("impossible: " + k, n) for k, n in self.rejected.items())]

    def table_counts(self, table: str) -> dict[str, int]:
        """The counts of one table by their words, without its name."""
        begin = f"{table}: "
        return {k.removeprefix(begin): n for k, n in self.counts.items() if k.startswith(begin)}

    def general(self) -> list[tuple[str, int]]:
        """The counts that are of no single table, ready to print."""
        begins = tuple(f"{table}: " for table in self.tables)
        return [(words, count) for words, count in self.rows() if not words.startswith(begins)]


class Importer(Protocol):
    """Turns one raw source into an extract."""

    def __call__(
        self,
        source: Path,
        out: Path,
        *,
        outcomes: Path | None = None,
        acknowledge_identifiers: bool = False,
        workers: int = 1,
    ) -> ImportReport:
        """Write an extract to `out`, whole or not at all.

        Args:
            source: The raw files.
            out: A new or empty folder.
            outcomes: A file of outcomes; an importer that has no use for one refuses it.
            acknowledge_identifiers: Whether what looks like identifiers of people may be there.
            workers: Processes at most; it makes no difference to the extract.

        Raises:
            ConfigError: A path does not exist, `out` is not empty, `outcomes` has no use.
            SchemaError: The source breaks its format, or has identifiers.
        """
