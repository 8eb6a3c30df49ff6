"""Time and peak memory of preparing the 8,000 stays of PhysioNet 2012 (sets a and b).

    python benchmarks/prepare.py ../shared/data/physionet2012

Imports both sets into a temporary folder, then prepares them as configs/physionet2012.yaml has it
and reads every batch once, each in a process of its own, whose peak memory is what the operating
system reports for it.
"""

import clinical

import tarfile
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from measuring import measured

CONFIG = Path(__file__).parents[1] / "configs" / "physionet2012.yaml"
BATCH_SIZE = 32


def import_both(source: Path, extract: Path) -> None:
    """One extract of both sets; set-a's outcomes are not known."""
    with tempfile.TemporaryDirectory() as raw:
        for name in ("set-a.tar.gz", "set-b.tar.gz"):
            with tarfile.open(source / name) as archive:
                archive.extractall(raw, filter="data")
        outcomes = source / "Outcomes-b.txt"
        clinical.import_extract("physionet2012", raw, extract, outcomes=outcomes)


def _configure(extract: Path) -> clinical.Run:
    places = [f"extract={extract}", f"out={extract.parent / 'run'}"]
    return clinical.Run.read(CONFIG, places)


def prepare(extract: Path) -> None:
    """The store of both sets."""
    clinical.prepare(_configure(extract))


def nothing(extract: Path) -> None:
    """What importing the toolkit costs alone."""

    _configure(extract)


def read(extract: Path) -> None:
    """Every batch of an epoch."""
    from clinical.cohort.store import Store
    from clinical.datamodule import make_loader

    config = _configure(extract)
    store = Store.open(config.out / "store")
    loader = make_loader(
        store.folder,
        config,
        store.rows(None),
        batch_size=BATCH_SIZE,
        workers=0,
        shuffle_seed=0,
    )
    assert sum(len(batch) for batch in loader) == store.n_samples


def main(
    source: Annotated[Path, typer.Argument(help="Folder with set-a.tar.gz and set-b.tar.gz.")],
) -> None:
    """Print a table of seconds and peak memory."""
    with tempfile.TemporaryDirectory() as work:
        extract = Path(work) / "extract"
        lines = {
            "import set-a and set-b": measured(import_both, source, extract),
            "the toolkit's own imports": measured(nothing, extract),
            "prepare": measured(prepare, extract),
            "read every batch": measured(read, extract),
        }
    print(f"{'step':28} {'seconds':>8} {'core s':>8} {'peak MB':>8}")
    for step, cost in lines.items():
        print(f"{step:28} {cost.seconds:8.1f} {cost.core_seconds:8.1f} {cost.peak_mb:8.0f}")


if __name__ == "__main__":
    typer.run(main)
