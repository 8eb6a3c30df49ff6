"""Time and peak memory from raw tables to an extract, and to the first training batch.

    python benchmarks/import_flat.py ../shared/data/mimic-iii-demo configs/importers/mimic3.yaml
    python benchmarks/import_flat.py MIMIC4 configs/importers/mimic4.yaml --first-batch \
        "tables.admissions.labels={mortality: {boolean: hospital_expire_flag,
        time: {after: admittime, hours: 48}}}"

Imports into a temporary folder, in a process of its own, whose peak memory is what the operating
system reports for it; what importing the toolkit costs alone is measured beside it. With
`--first-batch` the extract is prepared by benchmarks/import_flat.yaml, for which the mapping has to
give labels of `mortality`, and one batch is read.
"""

import clinical

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from measuring import measured

CONFIG = Path(__file__).with_name("import_flat.yaml")


def import_tables(mapping: Path, source: Path, out: Path, overrides: list[str]) -> None:
    """The extract of a source."""
    clinical.import_flat(mapping, source, out, overrides)


def nothing() -> None:
    """What importing the toolkit costs alone."""
    from clinical.extract.importers.flat import import_flat  # noqa: F401


def first_batch(extract: Path) -> None:
    """Prepare an extract and read one batch of its train split."""
    from clinical.datamodule import make_loader

    run = clinical.Run.read(CONFIG, [f"extract={extract}", f"out={extract.parent / 'run'}"])
    store = clinical.prepare(run)
    loader = make_loader(
        store.folder,
        run,
        store.rows("train"),
        batch_size=run.finetune.batch_size,
        workers=0,
        shuffle_seed=0,
    )
    next(iter(loader))


def main(
    source: Annotated[Path, typer.Argument(help="Folder of the tables.")],
    mapping: Annotated[Path, typer.Argument(help="A YAML file; see configs/importers.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    batch: Annotated[bool, typer.Option("--first-batch", help="Prepare it, too.")] = False,
) -> None:
    """Measure one import."""
    costs = {"the toolkit's own imports": measured(nothing)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "extract"
        costs["import"] = measured(import_tables, mapping, source, out, overrides or [])
        if batch:
            costs["prepare, read a batch"] = measured(first_batch, out)
        counts = json.loads((out / "import" / "counts.json").read_text())
        written = sum(path.stat().st_size for path in (out / "data").glob("*.parquet"))
    read = sum(count for words, count in counts.items() if words.endswith(": rows read"))
    print(f"{read:,} rows read, {counts['events written']:,} events, {written / 1e6:,.0f} MB")
    print(f"{'step':28} {'seconds':>8} {'core s':>8} {'peak MB':>8}")
    for step, cost in costs.items():
        print(f"{step:28} {cost.seconds:8.1f} {cost.core_seconds:8.1f} {cost.peak_mb:8.0f}")


if __name__ == "__main__":
    typer.run(main)
