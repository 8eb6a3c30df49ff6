"""What a store was made from, as one string: equal strings, equal stores."""

from clinical.cohort.store import FORMAT_VERSION, Store
from clinical.config import RunConfig
from clinical.errors import SchemaError
from clinical.extract.schema import EDGES_FOLDER, Extract
from clinical.given_weights import local_weights
from clinical.places import parquet_files

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Identity:
    """What a store is made from.

    Attributes:
        extract: The extract's fingerprint.
        settings: The part of the configuration that counts.
        made_from: SHA-256 of both and of samples, labels, splits and vocabularies.
    """

    extract: str
    settings: Mapping[str, Any]
    made_from: str

    @classmethod
    def of(cls, config: RunConfig, extract: Extract, settings: Mapping[str, Any]) -> "Identity":
        """Reads every file that the store would be made from once."""
        own = extract.fingerprint()
        total = hashlib.sha256()
        text = json.dumps(settings, sort_keys=True)
        total.update(f"{FORMAT_VERSION}\0{text}\0{own}\n".encode())
        for path in _files(config, extract):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.name}\0{content}\n".encode())
        return cls(own, settings, total.hexdigest())

    def find(self, folder: Path) -> Store | None:
        """The store at `folder`, if it is complete and made from the same."""
        try:
            store = Store.open(folder)
        except SchemaError:
            return None
        return store if store.manifest["made_from"] == self.made_from else None


def _files(config: RunConfig, extract: Extract) -> Iterable[Path]:
    """What the store is made from beside the extract's data and metadata."""
    single = [extract.path / "samples.parquet"]
    if config.splits is not None:
        single.append(config.splits.absolute())  # from the working directory, as it is read
    for relation in config.graph.relations:
        single.append(extract.path / EDGES_FOLDER / f"{relation}.parquet")
    yield from (path for path in single if path.is_file())
    for task in config.tasks.values():
        for folder in task.folders:
            yield from parquet_files(extract.path / folder)
    for name, modality in config.modalities.items():
        weights = local_weights(name, modality)
        if weights is not None:
            # Vocabularies and configurations are read when preparing; large weights are not.
            yield from sorted(p for p in weights.rglob("*") if p.suffix in (".json", ".txt"))
