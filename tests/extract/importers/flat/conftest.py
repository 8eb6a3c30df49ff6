"""Small sources, and their import by a mapping that a test writes."""

from clinical.extract.importers.flat import import_flat

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml


@dataclass(frozen=True)
class Imported:
    """An extract and what was said of it."""

    path: Path
    counts: dict[str, int]

    @property
    def events(self) -> pl.DataFrame:
        """All events, shard after shard."""
        return pl.read_parquet(sorted((self.path / "data").glob("*.parquet")))

    @property
    def rejects(self) -> pl.DataFrame:
        """What was left out."""
        return pl.read_parquet(self.path / "import" / "rejects.parquet")

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        """Columns of the events as tuples."""
        return self.events.select(columns).rows()

    def check_balance(self, table: str) -> None:
        """Records read are records imported and records left out, which the rejects list."""
        left_out = sum(
            count
            for words, count in self.counts.items()
            if words.startswith(f"{table}: rows left out")
        )
        read, imported = (self.counts[f"{table}: rows {word}"] for word in ("read", "imported"))
        assert read == imported + left_out
        places = self.rejects.filter((pl.col("table") == table) & pl.col("row_left_out"))
        assert places.select("file", "row").n_unique() == left_out


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder for the tables."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def import_tables(tmp_path: Path, source: Path) -> Callable[..., Imported]:
    """`import_tables(tables, key=value)`: write the files, import them by the mapping."""

    def do(tables: dict[str, Any], **others: Any) -> Imported:
        mapping = tmp_path / "mapping.yaml"
        raw = {"name": "test", "subject": "subject_id", "splits": None, **others, "tables": tables}
        mapping.write_text(yaml.safe_dump(raw, sort_keys=False))
        report = import_flat(mapping, source, tmp_path / "out")
        return Imported(tmp_path / "out", report.counts)

    return do
