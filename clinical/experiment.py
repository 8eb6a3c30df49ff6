"""The configuration of a run, checked against the menus: what the verbs take."""

from clinical.cohort.tasks import TASK_BUILDERS
from clinical.config import RunConfig, keywords, likely, load_yaml, override, problems
from clinical.encoders import ENCODERS
from clinical.errors import ConfigError
from clinical.fusion import FUSIONS
from clinical.heads import HEADS
from clinical.modalities import MODALITIES
from clinical.objectives import OBJECTIVES
from clinical.relations import RELATIONS

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

Entry = Callable[..., Any]


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
        try:
            config = cls.model_validate(raw)
        except ValidationError as error:
            raise ConfigError(_together(where, problems(error, cls))) from error
        found = list(_menu_problems(config))
        if found:
            raise ConfigError(_together(where, found))
        return config


def _together(where: str, found: Sequence[str]) -> str:
    if len(found) == 1:
        return f"{where}: {found[0]}"
    return f"{where}: {len(found)} problems\n" + "\n".join(f"  {problem}" for problem in found)


def _menu_problems(config: RunConfig) -> Iterator[str]:
    for name, task in config.tasks.items():
        where = f"tasks.{name}"
        if task.kind not in HEADS:
            yield f"{where}.kind: there is no head for {task.kind}; known are {', '.join(HEADS)}"
        if task.builder is None:
            yield from _option_problems(where, task.options, [])
        else:
            yield from _entry_problems(
                where, "builder", task.builder, TASK_BUILDERS, task.options, []
            )
    for name, modality in config.modalities.items():
        where = f"modalities.{name}"
        if name not in MODALITIES:
            yield f"{where}: unknown modality{likely(name, MODALITIES)}"
            continue
        yield from _entry_problems(
            where, "encoder", modality.encoder, ENCODERS, modality.options, [MODALITIES[name]]
        )
    fusion = config.fusion
    yield from _entry_problems("fusion", "kind", fusion.kind, FUSIONS, fusion.options, [])
    for name, relation in config.graph.relations.items():
        kind = relation.kind or name
        where = f"graph.relations.{name}"
        yield from _entry_problems(where, "kind", kind, RELATIONS, relation.options, [])
    objectives = config.pretrain.objectives if config.pretrain else {}
    for name, objective in objectives.items():
        where = f"pretrain.objectives.{name}"
        yield from _entry_problems(where, "name", name, OBJECTIVES, objective.options, [])


def _entry_problems(
    where: str,
    key: str,
    name: str,
    menu: Mapping[str, Entry],
    options: Mapping[str, Any],
    others: Sequence[Entry],
) -> Iterator[str]:
    if name not in menu:
        yield f"{where}.{key}: there is no {name}{likely(name, menu)}"
        return
    yield from _option_problems(where, options, [menu[name], *others])


def _option_problems(
    where: str, options: Mapping[str, Any], entries: Sequence[Entry]
) -> Iterator[str]:
    known = {k: p for entry in entries for k, p in keywords(entry).items()}
    for key, value in options.items():
        if key not in known:
            yield f"{where}.{key}: unknown key{likely(key, known)}"
            continue
        try:
            TypeAdapter(known[key].annotation).validate_python(value, strict=False)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            yield f"{where}.{key}: {message[0].lower()}{message[1:]} (given: {value!r})"
