"""The keys that a menu entry brings to its section of a configuration, against its signature."""

from clinical.config import keywords
from clinical.config_file import likely
from clinical.sections import OpenSection

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

Entry = Callable[..., Any]


def entry_problems(
    where: str,
    key: str,
    name: str,
    menu: Mapping[str, Entry],
    section: OpenSection,
    others: Sequence[Entry],
) -> Iterator[str]:
    if name not in menu:
        yield f"{where}.{key}: there is no {name}{likely(name, menu)}"
        return
    yield from option_problems(where, section, [menu[name], *others])


def option_problems(where: str, section: OpenSection, entries: Sequence[Entry]) -> Iterator[str]:
    """Problems of a section's own keys; those that are right get the type the entry asks for."""
    known = {k: p for entry in entries for k, p in keywords(entry).items()}
    own = [name for name in type(section).model_fields if name != "options"]
    for key, value in section.options.items():
        if key not in known:
            yield f"{where}.{key}: unknown key{likely(key, [*known, *own])}"
            continue
        try:
            # YAML reads 5e-4 as text: what passes the check must also arrive as a number.
            section.options[key] = TypeAdapter(known[key].annotation).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join([where, key, *(str(part) for part in first["loc"])])
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                message = "unknown key"
            yield f"{path}: {message[0].lower()}{message[1:]} (given: {value!r})"
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in {*section.options, *own}:
            yield f"{where}.{key}: is required"
