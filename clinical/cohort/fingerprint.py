"""What a store was made from, as one string: equal strings, equal stores."""

from clinical.cohort.store import FORMAT_VERSION, Store
from clinical.config import RunConfig
from clinical.errors import SchemaError
from clinical.extract.schema import EDGES_FOLDER, Extract
from clinical.given_weights import local_weights
from clinical.places import parquet_files

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl


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
        for path in chain.from_iterable(_files(config, extract).values()):
            _add(total, path)
        return cls(own, settings, total.hexdigest())

    def find(self, folder: Path) -> Store | None:
        """The store at `folder`, if it is complete and made from the same."""
        try:
            store = Store.open(folder)
        except SchemaError:
            return None
        return store if store.manifest["made_from"] == self.made_from else None


def contents_of(config: RunConfig, extract: Extract) -> dict[str, str]:
    """SHA-256 of the files that a store is made from beside `data/` and `metadata/`, by key.

    Returns:
        "samples", "splits" (those that the configuration names), "graph.relations.<relation>",
        "tasks.<task>" (its labels) and "modalities.<modality>" (its given weights) -> digest; of
        no bytes where there is no such file.
    """
    found = {}
    for key, paths in _files(config, extract).items():
        total = hashlib.sha256()
        for path in paths:
            _add(total, path)
        found[key] = total.hexdigest()
    return found


def train_digest(config: RunConfig, extract: Extract) -> str:
    """SHA-256 of who is in train: vocabularies, scales and pretraining are learned from these.

    Raises:
        ConfigError: The file of splits does not exist.
        SchemaError: It is none.
    """
    splits = extract.splits(None if config.splits is None else config.splits.absolute())
    subjects: list[int] = []
    if splits is not None:
        subjects = splits.filter(pl.col("split") == "train")["subject_id"].sort().to_list()
    return hashlib.sha256(json.dumps(subjects).encode()).hexdigest()


def _add(total: "hashlib._Hash", path: Path) -> None:
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    total.update(f"{path.name}\0{content}\n".encode())


def _files(config: RunConfig, extract: Extract) -> dict[str, list[Path]]:
    """What the store is made from beside the extract's data and metadata, by key."""
    single = {"samples": extract.path / "samples.parquet"}
    if config.splits is not None:
        single["splits"] = config.splits.absolute()  # from the working directory, as it is read
    for relation in config.graph.relations:
        path = extract.path / EDGES_FOLDER / f"{relation}.parquet"
        single[f"graph.relations.{relation}"] = path
    found = {key: [path] if path.is_file() else [] for key, path in single.items()}
    for name, task in config.tasks.items():
        folders = (parquet_files(extract.path / folder) for folder in task.folders)
        found[f"tasks.{name}"] = list(chain.from_iterable(folders))
    for name, modality in config.modalities.items():
        weights = local_weights(name, modality)
        if weights is not None:
            # Vocabularies and configurations are read when preparing; large weights are not.
            read = (path for path in weights.rglob("*") if path.suffix in (".json", ".txt"))
            found[f"modalities.{name}"] = sorted(read)
    return found
