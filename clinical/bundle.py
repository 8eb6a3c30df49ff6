"""A trained model as a folder: plain files, listed with their digests, nothing that can run."""

from clinical.calibration import Calibration
from clinical.config import RunConfig, load_yaml
from clinical.errors import BundleError, ConfigError
from clinical.model import ClinicalModel
from clinical.preparation import Fitted

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
MODEL = "model.safetensors"
CONFIG = "config.yaml"
MEMORY = "memory.safetensors"
CALIBRATION = "calibration.json"
METRICS = "metrics.json"
CARD = "MODEL_CARD.md"


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, read into memory.

    Attributes:
        config: the run's configuration, without the places of its extract and output.
        fitted: what the data side learned from train.
        model: weights, in evaluation mode.
        memory: [N, D] float32, fused summaries of the references (stored in half precision).
        calibration: task -> calibration, for tasks that have one.
    """

    config: RunConfig
    fitted: Fitted
    model: ClinicalModel
    memory: Tensor
    calibration: Mapping[str, Calibration]

    @classmethod
    def read(cls, folder: Path, *, draft: bool = False) -> "Bundle":
        """Open a bundle; nothing in it is executed or unpickled.

        Args:
            folder: of the bundle.
            draft: read a folder whose manifest is still to be written; only the run that is
                writing it may.

        Raises:
            BundleError: a file is missing, changed, unlisted or of another format version.
        """
        if not folder.is_dir():
            if folder.is_file():
                raise BundleError(f"{folder}: is a file; give the bundle's folder")
            raise BundleError(f"{folder}: there is no such bundle folder")
        if not draft:
            check_manifest(folder)
        try:
            config = RunConfig.model_validate(load_yaml(folder / CONFIG))
            fitted = Fitted.read(folder)
            weights = load_file(folder / MODEL)
            memory = load_file(folder / MEMORY)["embedding"].float()
            calibration = json.loads((folder / CALIBRATION).read_text(encoding="utf-8"))
            calibrations = {k: Calibration.from_json(v) for k, v in calibration.items()}
            model = ClinicalModel(config, fitted.sizes(config), n_reference=len(memory))
            model.load_state_dict(weights)
            model.eval()
            model.set_memory(memory)
        except (OSError, SafetensorError, ConfigError, KeyError) as error:
            what = type(error).__name__
            raise BundleError(f"{folder}: cannot be opened ({what}: {error})") from error
        except (ValidationError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise BundleError(
                f"{folder}: its parts do not fit together; it was written by another version "
                "of the toolkit or put together by hand. Train it again"
            ) from error
        return cls(config, fitted, model, memory, calibrations)


def write_draft(
    folder: Path, *, config: RunConfig, fitted: Fitted, model: ClinicalModel, memory: Tensor
) -> None:
    """Write all that scoring needs, uncalibrated and without a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(_portable(config).dump(), sort_keys=False, allow_unicode=True)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    fitted.write(folder)
    save_file({k: v.contiguous().cpu() for k, v in model.state_dict().items()}, folder / MODEL)
    save_file({"embedding": memory.to(torch.float16).contiguous().cpu()}, folder / MEMORY)
    write_json(folder / CALIBRATION, {})


def _portable(config: RunConfig) -> RunConfig:
    """The configuration without places on this machine; weights are in the model by now."""
    modalities = {
        name: modality.model_copy(update={"weights": None})
        for name, modality in config.modalities.items()
    }
    tasks = {
        name: task.model_copy(update={"labels": Path(task.labels.name)})
        if task.labels is not None and task.labels.is_absolute()
        else task
        for name, task in config.tasks.items()
    }
    return config.model_copy(
        update={
            "extract": Path(config.extract.name),
            "out": Path(config.out.name),
            "splits": None,
            "modalities": modalities,
            "tasks": tasks,
        }
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that is the same for the same content."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def seal(folder: Path) -> None:
    """List every file with its SHA-256; with this the draft becomes a bundle."""
    files = {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, SEAL)
    }
    write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "files": files})
    (folder / SEAL).write_text(_digest(folder / MANIFEST) + "\n", encoding="utf-8")


def check_manifest(folder: Path) -> None:
    """Refuse a bundle whose files are not exactly those that were written.

    Raises:
        BundleError: naming the file and what is wrong with it.
    """
    if (folder / "bundle" / MANIFEST).is_file():
        raise BundleError(f"{folder}: is a run folder; its bundle is {folder / 'bundle'}")
    if (folder / "data").is_dir():
        raise BundleError(f"{folder}: is an extract; give the bundle first, then the extract")
    for name in (MANIFEST, SEAL):
        if not (folder / name).is_file():
            raise BundleError(
                f"{folder / name}: is missing, so the bundle is unfinished or damaged; "
                "train it again or copy it completely"
            )
    if (folder / SEAL).read_text(encoding="utf-8", errors="replace").strip() != _digest(
        folder / MANIFEST
    ):
        raise BundleError(f"{folder / MANIFEST}: was changed after the bundle was written")
    files = _listed(folder)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        # A link may point out of the folder, also one to a folder that holds a listed file.
        alien = not path.is_dir() and name not in {*files, MANIFEST, SEAL}
        if path.is_symlink() or (alien and not hidden):
            raise BundleError(f"{path}: does not belong to the bundle; remove it")
    for name, digest in files.items():
        _check_file(folder, name, digest)


def _listed(folder: Path) -> dict[str, str]:
    """The manifest's files and digests."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["format_version"], dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / MANIFEST}: is no manifest; get the bundle anew") from error
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{folder}: has format version {version}, this toolkit reads {FORMAT_VERSION}; "
            "use the version that wrote it"
        )
    return files


def _check_file(folder: Path, name: str, digest: str) -> None:
    parts = PurePosixPath(name).parts
    path = folder / name
    if PurePosixPath(name).is_absolute() or ".." in parts:
        raise BundleError(f"{folder / MANIFEST}: lists a path that leaves the bundle's folder")
    if not path.is_file():
        raise BundleError(f"{path}: is missing; copy the bundle completely")
    if _digest(path) != digest:
        raise BundleError(f"{path}: was changed after the bundle was written; get it anew")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
