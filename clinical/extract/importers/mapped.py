"""Importers that are a mapping of `configs/importers/` and nothing else."""

from clinical.errors import ConfigError
from clinical.extract.importers.flat import import_flat
from clinical.extract.importers.report import Importer, ImportReport

import importlib.resources
from pathlib import Path


def mapped_importer(name: str) -> Importer:
    """The importer of a shipped mapping, `configs/importers/NAME.yaml`."""

    def import_mapped(
        source: Path,
        out: Path,
        *,
        outcomes: Path | None = None,
        acknowledge_identifiers: bool = False,
        workers: int = 1,
    ) -> ImportReport:
        if outcomes is not None:
            raise ConfigError(f"{name} takes no outcomes: they are among its tables; leave it out")
        folder = importlib.resources.files("clinical.configs") / "importers"
        with importlib.resources.as_file(folder / f"{name}.yaml") as mapping:
            return import_flat(
                mapping,
                source,
                out,
                acknowledge_identifiers=acknowledge_identifiers,
                workers=workers,
            )

    return import_mapped
