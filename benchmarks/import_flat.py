"""Time and peak memory of importing raw tables by a mapping.

    python benchmarks/import_flat.py ../shared/data/mimic-iii-demo configs/importers/mimic3.yaml
    python benchmarks/import_flat.py MIMIC4 configs/importers/mimic4.yaml tables.chartevents=null

Imports into a temporary folder, in a process of its own, whose peak memory is what the operating
system reports for it; what importing the toolkit costs alone is measured beside it.
"""

import clinical

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from measuring import measured


def import_tables(mapping: Path, source: Path, out: Path, overrides: list[str]) -> None:
    """The extract of a source."""
    clinical.import_flat(mapping, source, out, overrides)


def nothing() -> None:
    """What importing the toolkit costs alone."""
    from clinical.extract.importers.flat import import_flat  # noqa: F401


def main(
    source: Annotated[Path, typer.Argument(help="Folder of the tables.")],
    mapping: Annotated[Path, typer.Argument(help="A YAML file; see configs/importers.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
) -> None:
    """Measure one import."""
    alone = measured(nothing)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "extract"
        cost = measured(import_tables, mapping, source, out, overrides or [])
        counts = json.loads((out / "import" / "counts.json").read_text())
        written = sum(path.stat().st_size for path in (out / "data").glob("*.parquet"))
    read = sum(count for words, count in counts.items() if words.endswith(": rows read"))
    typer.echo(f"{read:,} rows read, {counts['events written']:,} events, {written / 1e6:,.0f} MB")
    for name, one in (("import", cost), ("the toolkit alone", alone)):
        typer.echo(
            f"{name}: {one.seconds:.1f} s, {one.core_seconds:.1f} s of cores, "
            f"{one.peak_mb / 1000:.2f} GB"
        )


if __name__ == "__main__":
    typer.run(main)
