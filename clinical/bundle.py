"""A trained model as a folder: plain files, listed with their digests, nothing that can run."""

from clinical.answers import Answer
from clinical.calibration import Calibration
from clinical.config import RunConfig
from clinical.config_file import load_yaml
from clinical.conformal import USUAL_COVERAGE, Conformal
from clinical.errors import BundleError, ConfigError
from clinical.experts import EXPERTS, Expert
from clinical.experts.stack import EVEN
from clinical.experts.tabular import Tabulator
from clinical.manifest import check_manifest, write_json
from clinical.modalities.codes import check_statistics
from clinical.model import ClinicalModel
from clinical.objectives import Objective, build_objectives, travelling
from clinical.preparation import Fitted
from clinical.relations.embedded import by_embedding
from clinical.relations.linking import check_fitted
from clinical.typicality import Typicality

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MODEL = "model.safetensors"
CONFIG = "config.yaml"
MEMORY = "memory.safetensors"
PRETRAINED_MODEL = "pretrained_model.safetensors"
PRETRAINED_MEMORY = "pretrained_memory.safetensors"
PRETRAINED_OBJECTIVES = "pretrained_objectives.safetensors"
STACK = "stack.json"
CALIBRATION = "calibration.json"
CONFORMAL = "conformal.json"
METRICS = "metrics.json"
CARD = "MODEL_CARD.md"
THRESHOLDS = "thresholds.json"
TYPICALITY = "typicality.safetensors"
TYPICALITY_WORDS = "typicality.json"

Experts = Mapping[str, Mapping[str, Expert]]


@dataclass(frozen=True)
class Network:
    """One network of the ensemble.

    Attributes:
        model: weights, in evaluation mode, the memory in place.
        memory: [N, D] float32, fused summaries of the references (stored in half precision).
        objectives: name -> what pretraining learned besides and is asked again; of a network as
            pretraining left it.
    """

    model: ClinicalModel
    memory: Tensor
    objectives: Mapping[str, Objective] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, read into memory.

    Attributes:
        config: the run's configuration, without the places of its extract and output.
        fitted: what the data side learned from train.
        networks: the members of the ensemble.
        experts: expert -> binary task -> what was fitted for it.
        stack: binary task -> the experts' weight beside the networks; empty without experts.
        calibration: task, or task/class for the classes of a multilabel one -> calibration.
        conformal: task -> thresholds of its sets or intervals; of no task where nothing was fitted.
        answers: task -> how its logits become scores.
        folder: where it lies.
        typicality: what is known of train to tell how typical a sample is; a draft may be without.
    """

    config: RunConfig
    fitted: Fitted
    networks: tuple[Network, ...]
    experts: Experts
    stack: Mapping[str, float]
    calibration: Mapping[str, Calibration]
    conformal: Mapping[str, Mapping[str, Conformal]]
    answers: Mapping[str, Answer]
    folder: Path
    typicality: Typicality | None = None

    def calibration_of(self, task: str) -> dict[str | None, Calibration]:
        """By class; None is the task as a whole."""
        classes = dict.fromkeys((None, *self.answers[task].classes))
        named = {label_class: calibration_name(task, label_class) for label_class in classes}
        return {k: self.calibration[name] for k, name in named.items() if name in self.calibration}

    @property
    def named_calibrations(self) -> dict[str, Calibration]:
        """In the order of the tasks."""
        return {
            calibration_name(task, label_class): fit
            for task in self.answers
            for label_class, fit in self.calibration_of(task).items()
        }

    @property
    def tabulator(self) -> Tabulator:
        """The flat features that the experts read."""
        return Tabulator.of(self.config, self.fitted.sizes(self.config))

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
            raise BundleError(f"{folder}: there is no such bundle folder; give `bundle` of a run")
        if not draft:
            check_manifest(folder)
        with _opening(folder):
            # Whoever wrote it: reading a bundle looks for nothing elsewhere.
            config = _portable(RunConfig.model_validate(load_yaml(folder / CONFIG)))
            fitted = Fitted.read(folder)
            calibration = json.loads((folder / CALIBRATION).read_text(encoding="utf-8"))
            calibrations = {k: Calibration.from_json(v) for k, v in calibration.items()}
            check_fitted(config, fitted)
            if "codes" in config.modalities:
                n_codes = fitted.modality_sizes["codes"]["codes"]
                check_statistics(fitted.statistics["codes"], n_codes=n_codes)
            is_asked = by_embedding(config) or travelling(config)
            if is_asked and not (folder / PRETRAINED_MODEL).is_file():
                raise ValueError("the networks as pretraining left them are missing")
            networks = _read_networks(folder, config, fitted, model=MODEL, memory=MEMORY)
            experts = _read_experts(folder, config)
            stack = _read_stack(folder, config)
            answers = fitted.answers(config)
            conformal = _read_conformal(folder, answers)
            typicality = _read_typicality(folder, config, draft=draft)
            bundle = cls(
                config,
                fitted,
                networks,
                experts,
                stack,
                calibrations,
                conformal,
                answers,
                folder,
                typicality,
            )
            _check_width(bundle)
        return bundle

    def pretrained_networks(self) -> tuple[Network, ...]:
        """The networks as pretraining left them, read anew; none if nothing asks for them.

        Raises:
            BundleError: they are of other sizes.
        """
        if not (self.folder / PRETRAINED_MODEL).is_file():
            return ()
        files = {"model": PRETRAINED_MODEL, "memory": PRETRAINED_MEMORY}
        with _opening(self.folder):
            networks = _read_networks(self.folder, self.config, self.fitted, **files)
            return _with_objectives(self.folder, self.config, networks)


@contextmanager
def _opening(folder: Path) -> Iterator[None]:
    """Say of whatever is wrong with a bundle's parts that the bundle is."""
    try:
        yield
    except (OSError, SafetensorError, ConfigError, KeyError) as error:
        what = type(error).__name__
        raise BundleError(f"{folder}: cannot be opened ({what}: {error})") from error
    except (ValidationError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise BundleError(
            f"{folder}: its parts do not fit together; it was written by another version "
            "of the toolkit or put together by hand. Train it again"
        ) from error


def calibration_name(task: str, label_class: str | None) -> str:
    """What a calibration is called in a bundle."""
    return task if label_class is None else f"{task}/{label_class}"


def _member(number: int) -> str:
    return f"member-{number}"


def _read_networks(
    folder: Path, config: RunConfig, fitted: Fitted, *, model: str, memory: str
) -> tuple[Network, ...]:
    weights, memories = load_file(folder / model), load_file(folder / memory)
    names = [_member(number) for number in range(len(memories))]
    found = {key.partition("/")[0] for key in weights}
    if len(names) != config.ensemble or not set(names) == set(memories) == found:
        raise ValueError("weights, embeddings and configuration are of other networks")
    networks = []
    for name in names:
        rows = memories[name].float()
        if config.graph.relations and len(rows) != len(fitted.reference_subject):
            raise ValueError("embeddings and keys are of other references")
        network = ClinicalModel(
            config, fitted.sizes(config), n_reference=len(rows), answers=fitted.answers(config)
        )
        network.use_statistics(fitted.statistics)
        network.load_state_dict(_own(weights, name))
        network.eval()
        network.set_memory(rows)
        networks.append(Network(network, rows))
    return tuple(networks)


def _own(weights: Mapping[str, Tensor], member: str) -> dict[str, Tensor]:
    own = f"{member}/"
    return {k.removeprefix(own): v for k, v in weights.items() if k.startswith(own)}


def _with_objectives(
    folder: Path, config: RunConfig, networks: Sequence[Network]
) -> tuple[Network, ...]:
    found = []
    for number, network in enumerate(networks):
        objectives = build_objectives(travelling(config), network.model)
        if objectives:
            weights = load_file(folder / PRETRAINED_OBJECTIVES)
            nn.ModuleDict(objectives).eval().load_state_dict(_own(weights, _member(number)))
        found.append(replace(network, objectives=objectives))
    return tuple(found)


def _expert_files(expert: str, config: RunConfig) -> dict[str, str]:
    """Each binary task's file, by its place among all tasks: its name may be no file name."""
    places = {task: place for place, task in enumerate(config.tasks)}
    return {task: f"{expert}-{places[task]}.txt" for task in config.binary_tasks}


def _read_experts(folder: Path, config: RunConfig) -> Experts:
    return {
        name: {
            task: EXPERTS[name].read((folder / file).read_text(encoding="utf-8"))
            for task, file in _expert_files(name, config).items()
        }
        for name in config.experts
    }


def _read_stack(folder: Path, config: RunConfig) -> dict[str, float]:
    stack = json.loads((folder / STACK).read_text(encoding="utf-8"))
    weights = {str(task): float(weight) for task, weight in stack.items()}
    if set(weights) != (set(config.binary_tasks) if config.experts else set()):
        raise ValueError("there are weights of other tasks")
    if not all(0 <= weight <= 1 for weight in weights.values()):
        raise ValueError("a weight is not between 0 and 1")
    return weights


def _read_conformal(folder: Path, answers: Mapping[str, Answer]) -> dict[str, dict[str, Conformal]]:
    if not (folder / CONFORMAL).is_file():  # of a bundle that was written before there were sets
        return {}
    content = json.loads((folder / CONFORMAL).read_text(encoding="utf-8"))
    found = {
        task: {name: Conformal.from_json(each) for name, each in fitted.items()}
        for task, fitted in content.items()
    }
    for task, fitted in found.items():
        answers[task].sets(np.zeros((1, *answers[task].shape)), fitted, USUAL_COVERAGE)
    return found


def write_typicality(folder: Path, typicality: Typicality) -> None:
    """Add to a draft what is known of train to tell how typical a sample is."""
    save_file(typicality.to_tensors(), folder / TYPICALITY)
    write_json(folder / TYPICALITY_WORDS, typicality.to_json())


def _read_typicality(folder: Path, config: RunConfig, *, draft: bool) -> Typicality | None:
    if draft and not (folder / TYPICALITY_WORDS).is_file():
        return None
    words = json.loads((folder / TYPICALITY_WORDS).read_text(encoding="utf-8"))
    return Typicality.read(words, load_file(folder / TYPICALITY), list(config.modalities))


def _check_width(bundle: Bundle) -> None:
    width = bundle.tabulator.n_columns
    if any(e.n_features != width for tasks in bundle.experts.values() for e in tasks.values()):
        raise ValueError("an expert reads other features")


def write_draft(
    folder: Path,
    *,
    config: RunConfig,
    fitted: Fitted,
    networks: Sequence[Network],
    experts: Experts,
    pretrained: Sequence[Network] = (),
) -> None:
    """Write all that scoring needs, evenly stacked, uncalibrated and without a manifest.

    Beside it the networks before fine-tuning, where anything is asked of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(_portable(config).dump(), sort_keys=False, allow_unicode=True)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    fitted.write(folder)
    _write_networks(networks, folder / MODEL, folder / MEMORY)
    if pretrained:
        _write_networks(pretrained, folder / PRETRAINED_MODEL, folder / PRETRAINED_MEMORY)
        if travelling(config):
            asked = [nn.ModuleDict(network.objectives) for network in pretrained]
            _write_weights(asked, folder / PRETRAINED_OBJECTIVES)
    for name, tasks in experts.items():
        for task, file in _expert_files(name, config).items():
            (folder / file).write_text(tasks[task].text, encoding="utf-8")
    write_json(folder / STACK, dict.fromkeys(config.binary_tasks, EVEN) if experts else {})
    write_json(folder / CALIBRATION, {})
    write_json(folder / CONFORMAL, {})


def _write_networks(networks: Sequence[Network], model: Path, memory: Path) -> None:
    for network in networks:
        network.model.settle()
    _write_weights([network.model for network in networks], model)
    memories = {
        _member(number): network.memory.to(torch.float16).contiguous().cpu()
        for number, network in enumerate(networks)
    }
    save_file(memories, memory)


def _write_weights(modules: Sequence[nn.Module], path: Path) -> None:
    weights = {
        f"{_member(number)}/{key}": value.contiguous().cpu()
        for number, module in enumerate(modules)
        for key, value in module.state_dict().items()
    }
    save_file(weights, path)


def _portable(config: RunConfig) -> RunConfig:
    """The configuration without places on this machine; weights are in the model by now."""
    modalities = {
        name: modality.model_copy(update={"weights": None, "allow_download": False})
        for name, modality in config.modalities.items()
    }
    tasks = {
        name: task.model_copy(update={"labels": _portable_labels(task.labels)})
        for name, task in config.tasks.items()
    }
    begun = config.finetune.init
    if begun is not None:
        begun = begun.model_copy(update={"bundle": Path(begun.bundle.name), "mapping": None})
    return config.model_copy(
        update={
            "finetune": config.finetune.model_copy(update={"init": begun}),
            "extract": Path(config.extract.name),
            "out": Path(config.out.name),
            "splits": None,
            "modalities": modalities,
            "tasks": tasks,
        }
    )


def _portable_labels(labels: Path | list[Path] | None) -> Path | list[Path] | None:
    if isinstance(labels, list):
        return [Path(folder.name) if folder.is_absolute() else folder for folder in labels]
    return Path(labels.name) if labels is not None and labels.is_absolute() else labels
