"""A configuration as text: reads YAML, applies overrides, and words what is wrong with it."""

from clinical.errors import ConfigError

import copy
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            line = node.start_mark.line + 1
            raise ConfigError(f"{', '.join(twice)}: given twice in the section at line {line}")
        return super().construct_mapping(node, deep=deep)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, is no mapping or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file; check the path") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: is a folder; give the YAML file of a run") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text; {error}") from error
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, *, where: str) -> dict[str, Any]:
    """Parse a YAML mapping, `where` naming it in errors."""
    try:
        raw = yaml.load(text, _Loader)  # noqa: S506  (a subclass of SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", "syntax error")
        raise ConfigError(f"{where}{line}: not valid YAML ({problem})") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: should be a mapping of keys to values")
    return raw


def override(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `key.sub=value` overrides; the value is read as YAML.

    Raises:
        ConfigError: an override without "=", or one that goes below a plain value.
    """
    merged = copy.deepcopy(dict(raw))
    for item in overrides:
        path, equals, text = item.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"{item}: an override is written key=value, such as seed=8")
        *parents, last = path.strip().split(".")
        section = merged
        for parent in parents:
            inner = section.get(parent)
            if inner is None:
                inner = section[parent] = {}
            if not isinstance(inner, dict):
                raise ConfigError(f"{item}: {parent} is a value, not a section with keys")
            section = inner
        section[last] = parse_yaml(f"value: {text}", where=item)["value"]
    return merged


def problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Each problem of a failed validation as `path.of.key: what, and the likely key`."""
    return [_problem(item, model) for item in error.errors(include_url=False)]


def _problem(item: Any, model: type[BaseModel]) -> str:
    location = [str(part) for part in item["loc"]]
    path = ".".join(location) or "the file"
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key{likely(location[-1], _known_keys(model, location[:-1]))}"
    if item["type"] == "missing":
        return f"{path}: is required"
    message = item["msg"].removeprefix("Value error, ")
    given = item.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{path}: {message[0].lower()}{message[1:]}{shown}"


def _known_keys(model: type[BaseModel], location: list[str]) -> list[str]:
    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            continue
        nested = [
            kind
            for kind in _types_in(field.annotation)
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        current = nested[0] if nested else current
    return list(getattr(current, "model_fields", {}))


def _types_in(annotation: Any) -> Iterable[Any]:
    yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _types_in(inner)


def likely(given: str, known: Iterable[str]) -> str:
    """Words that point to the key the user probably meant."""
    known = sorted(known)
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(known)}" if known else ""
