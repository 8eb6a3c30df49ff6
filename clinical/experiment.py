"""The configuration of a run, checked against the menus: what the verbs take."""

from clinical.cohort.tasks import builder_problems
from clinical.config import (
    FusionConfig,
    ModalityConfig,
    RelationConfig,
    RunConfig,
    TaskConfig,
)
from clinical.config_file import likely, load_yaml, override, problems
from clinical.encoders import ENCODERS
from clinical.entry_options import entry_problems, option_problems
from clinical.errors import ConfigError
from clinical.experts import EXPERTS
from clinical.fusion import FUSIONS
from clinical.modalities import MODALITIES
from clinical.objectives import OBJECTIVES
from clinical.predictor.panel import GRAPH
from clinical.relations import RELATIONS
from clinical.sections import ObjectiveConfig, OpenSection

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError
from torch import nn

Section = TypeVar("Section", bound=OpenSection)


class Run(RunConfig):
    """One experiment as a user writes it; the command line and notebooks use the same object."""

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> "Run":
        """Read a YAML file and apply `key=value` overrides.

        Raises:
            ConfigError: with every problem at once, each with the path of its key.
        """
        return cls.parse(override(load_yaml(Path(path)), overrides), where=str(path))

    @classmethod
    def parse(cls, raw: Mapping[str, Any], *, where: str) -> "Run":
        """The same from values; `where` names them in errors."""
        found = [*_unknown_modalities(raw), *_unknown_experts(raw)]
        try:
            config = cls.model_validate(raw)
        except ValidationError as error:
            # What else is wrong with what doesn't exist helps nobody.
            told = [problem.partition(":")[0] for problem in found]
            inside = tuple(f"{path}{end}" for path in told for end in ".:")
            found += [p for p in problems(error, cls) if not p.startswith(inside)]
            found += _menu_problems(_Entries.of_raw(raw))
            raise ConfigError(_together(where, found)) from error
        if found := [*found, *_menu_problems(_Entries.of(config))]:
            raise ConfigError(_together(where, found))
        return config


@dataclass(frozen=True)
class _Entries:
    """The parts of a configuration that name menu entries."""

    tasks: Mapping[str, TaskConfig]
    modalities: Mapping[str, ModalityConfig]
    fusion: FusionConfig
    relations: Mapping[str, RelationConfig]
    objectives: Mapping[str, ObjectiveConfig]

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Of a valid configuration."""
        return cls(
            config.tasks,
            config.modalities,
            config.fusion,
            config.graph.relations,
            config.pretrain.objectives if config.pretrain else {},
        )

    @classmethod
    def of_raw(cls, raw: Mapping[str, Any]) -> Self:
        """Those that are valid by themselves, so that all problems can be told at once."""
        fusion = _valid({"fusion": raw.get("fusion", {})}, FusionConfig)
        return cls(
            _valid(raw.get("tasks"), TaskConfig),
            _valid(raw.get("modalities"), ModalityConfig),
            fusion.get("fusion", FusionConfig()),
            _valid(_inner(raw, "graph", "relations"), RelationConfig),
            _valid(_inner(raw, "pretrain", "objectives"), ObjectiveConfig),
        )


def _inner(raw: Mapping[str, Any], section: str, key: str) -> Any:
    inner = raw.get(section)
    return inner.get(key) if isinstance(inner, Mapping) else None


def _valid(raw: Any, kind: type[Section]) -> dict[str, Section]:
    found = {}
    for name, value in raw.items() if isinstance(raw, Mapping) else ():
        with contextlib.suppress(ValidationError):
            found[str(name)] = kind.model_validate(value)
    return found


def _together(where: str, found: Sequence[str]) -> str:
    if len(found) == 1:
        return f"{where}: {found[0]}"
    return f"{where}: {len(found)} problems\n" + "\n".join(f"  {problem}" for problem in found)


def _unknown_modalities(raw: Mapping[str, Any]) -> Iterator[str]:
    """Of all that are named, also those without an encoder or switched off."""
    named = raw.get("modalities")
    for name in named if isinstance(named, Mapping) else ():
        if name not in MODALITIES:
            guess = likely(str(name), MODALITIES)
            yield f"modalities.{name}: there is no modality {name}{guess}"


def _unknown_experts(raw: Mapping[str, Any]) -> Iterator[str]:
    for key, named in (("experts", raw.get("experts")), ("finetune.teachers", _teachers(raw))):
        for place, name in enumerate(named if isinstance(named, list) else []):
            if isinstance(name, str) and name not in EXPERTS:
                yield f"{key}.{place}: there is no {name}{likely(name, EXPERTS)}"


def _teachers(raw: Mapping[str, Any]) -> Any:
    finetune = raw.get("finetune")
    return finetune.get("teachers") if isinstance(finetune, Mapping) else None


def _menu_problems(entries: _Entries) -> Iterator[str]:
    yield from _name_problems(entries)
    for name, task in entries.tasks.items():
        where = f"tasks.{name}"
        if task.builder is None:
            yield from option_problems(where, task, [])
        else:
            yield from builder_problems(task, where=where)
    for name, modality in entries.modalities.items():
        where = f"modalities.{name}"
        if name not in MODALITIES:
            continue  # told by _unknown_modalities
        encoder = ENCODERS.get(modality.encoder)
        if modality.allow_download and encoder is not None and not encoder.is_fetched:
            yield (
                f"{where}.allow_download: {modality.encoder} has no weights on the hub; remove the "
                "key, and give a local file where it takes one"
            )
        others = [MODALITIES[name]]
        yield from entry_problems(where, "encoder", modality.encoder, ENCODERS, modality, others)
    fusion = entries.fusion
    yield from entry_problems("fusion", "kind", fusion.kind, FUSIONS, fusion, [])
    for name, relation in entries.relations.items():
        where = f"graph.relations.{name}"
        yield from entry_problems(where, "kind", relation.kind or name, RELATIONS, relation, [])
    for name, objective in entries.objectives.items():
        where = f"pretrain.objectives.{name}"
        yield from entry_problems(where, "name", name, OBJECTIVES, objective, [])


def _name_problems(entries: _Entries) -> Iterator[str]:
    for section, names in (("tasks", entries.tasks), ("graph.relations", entries.relations)):
        for name in names:
            # The model keeps its parts in a module under these names.
            if "." in name or hasattr(nn.ModuleDict, name):
                yield f"{section}.{name}: cannot be a name here; choose another, without a dot"
            # `embed`, `link` and `leave_out` are told by name alone what is meant.
            if name in MODALITIES or name == GRAPH:
                yield f"{section}.{name}: means something else already; choose another name"
    for name in entries.tasks.keys() & entries.relations.keys():
        yield f"tasks.{name}: a relation has that name too; rename one of them"
