"""What the data side learned from train: it travels in the bundle, without subject identifiers."""

from clinical.answers import Answer, answers_of
from clinical.cohort.columns import Array
from clinical.cohort.hashes import code_hash, sample_hashes, subject_hashes
from clinical.cohort.lineage import LINEAGE, Learned, read_lineage, to_arrays, to_json
from clinical.config import RunConfig
from clinical.errors import BundleError

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

__all__ = [
    "Fitted",
    "code_hash",
    "read_statistics",
    "sample_hashes",
    "subject_hashes",
]

STATISTICS_FILE = "statistics.json"
REFERENCE_FILE = "reference.safetensors"
ARCHITECTURE = "config"


@dataclass(frozen=True)
class Fitted:
    """Everything learned from train on the data side.

    Attributes:
        statistics: Modality -> what it learned, plain JSON values.
        parameters: Relation -> the arrays its keys are computed with.
        reference: Relation -> the keys of the reference samples; the row is the memory's row.
        reference_subject: [N] int64, a salted hash of (dataset_name, subject_id).
        reference_sample: [N] int64, the same with the prediction time, so that a reference that
            stands in a context too is not counted twice.
        modality_sizes: Modality -> all that its encoder needs to be built.
        salt: Of those hashes.
        dataset_name: Of the extract that the reference comes from.
        consistent_calendar: Of the same.
        tasks: Task -> what its labels taught, plain JSON values; see `clinical.answers`.
        described: Code of a vocabulary -> its `description` and `unit`, where the extract had them.
        lineage: Of a bundle: from whom its weights were learned; empty of a store.
    """

    statistics: Mapping[str, dict[str, Any]]
    parameters: Mapping[str, dict[str, Array]]
    reference: Mapping[str, dict[str, Array]]
    reference_subject: NDArray[np.int64]
    reference_sample: NDArray[np.int64]
    modality_sizes: Mapping[str, dict[str, int]]
    salt: str
    dataset_name: str
    consistent_calendar: bool
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    described: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    lineage: tuple[Learned, ...] = ()

    def answers(self, config: RunConfig) -> dict[str, Answer]:
        """The answer to each task of the configuration.

        Raises:
            BundleError: They are of other tasks.
        """
        try:
            return answers_of(config.tasks, self.tasks)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"{STATISTICS_FILE}: what was learned of the tasks does not fit them; "
                "write the bundle again"
            ) from error

    def sizes(self, config: RunConfig) -> dict[str, dict[str, Any]]:
        """The sizes of the configured modalities, in the configuration's order.

        Beside them the architecture of given weights, their config.json: a model is built of it
        where the weights themselves are no longer at hand.
        """
        return {
            name: {
                **self.modality_sizes[name],
                **{k: v for k, v in self.statistics[name].items() if k == ARCHITECTURE},
            }
            for name in config.modalities
        }

    def write(self, folder: Path) -> None:
        """Write two files into an existing folder."""
        plain = {
            "statistics": self.statistics,
            "sizes": self.modality_sizes,
            "relations": sorted(self.parameters),
            "salt": self.salt,
            "dataset_name": self.dataset_name,
            "consistent_calendar": self.consistent_calendar,
            "tasks": self.tasks,
            "described": self.described,
            LINEAGE: to_json(self.lineage),
        }
        text = json.dumps(plain, ensure_ascii=False, indent=1)
        (folder / STATISTICS_FILE).write_text(text + "\n", encoding="utf-8")
        arrays = {
            "reference_subject": self.reference_subject,
            "reference_sample": self.reference_sample,
            **to_arrays(self.lineage),
        }
        for kind in ("parameters", "reference"):
            for relation, named in getattr(self, kind).items():
                arrays |= {f"{kind}/{relation}/{name}": array for name, array in named.items()}
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, folder / REFERENCE_FILE)

    @classmethod
    def read(cls, folder: Path) -> "Fitted":
        """Read what `write` wrote; no code runs and nothing is unpickled.

        Raises:
            BundleError: A file is missing or damaged.
        """
        try:
            plain = json.loads((folder / STATISTICS_FILE).read_text(encoding="utf-8"))
            arrays = load_file(folder / REFERENCE_FILE)
            nested: dict[str, dict[str, dict[str, Array]]] = {
                kind: {relation: {} for relation in plain["relations"]}
                for kind in ("parameters", "reference")
            }
            subject, sample = arrays.pop("reference_subject"), arrays.pop("reference_sample")
            own = [name for name in arrays if name.startswith(f"{LINEAGE}/")]
            lineage = read_lineage(plain.get(LINEAGE, []), {n: arrays.pop(n) for n in own})
            for path, array in arrays.items():
                kind, rest = path.split("/", 1)
                relation, name = rest.rsplit("/", 1)
                nested[kind][relation][name] = array
            return cls(
                statistics=plain["statistics"],
                parameters=nested["parameters"],
                reference=nested["reference"],
                reference_subject=subject,
                reference_sample=sample,
                modality_sizes=plain["sizes"],
                salt=plain["salt"],
                dataset_name=plain["dataset_name"],
                consistent_calendar=plain["consistent_calendar"],
                tasks=plain.get("tasks", {}),  # absent where all were binary
                described=plain.get("described", {}),  # absent in older bundles
                lineage=lineage,
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise BundleError(
                f"{folder.name}: {STATISTICS_FILE} or {REFERENCE_FILE} is missing or damaged; "
                "write the bundle again"
            ) from error


def read_statistics(folder: Path) -> dict[str, dict[str, Any]]:
    """Modality -> what it learned, of what `Fitted.write` wrote."""
    plain = json.loads((folder / STATISTICS_FILE).read_text(encoding="utf-8"))
    statistics: dict[str, dict[str, Any]] = plain["statistics"]
    return statistics
