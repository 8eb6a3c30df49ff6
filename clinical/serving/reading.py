"""A request read from the bytes of its body, in steps that leave a moment to everybody else.

Parsing and validating hold the interpreter's lock: counts are checked before anything is validated,
and long lists are validated a piece at a time, so that other requests are answered in between.
"""

from clinical.serving.limits import Limits, RefusedError
from clinical.serving.messages import Code, Event, Request

import json
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError

PIECE = 1000
"""Entries of a list that are validated at once: milliseconds."""
SHOWN = 5
"""Mistakes of a request that are told at once."""

_EVENTS = TypeAdapter(list[Event])
_CODES = TypeAdapter(list[Code])

Place = tuple[str | int, ...]


def read_request(body: bytes, limits: Limits) -> Request:
    """The request that a body is.

    Raises:
        RefusedError: it is no JSON, asks for more than the limits, or is wrong; told without what
            it says.
    """
    try:
        said = json.loads(body)
    except UnicodeDecodeError:
        raise RefusedError(422, "body: is no JSON: its letters are not UTF-8") from None
    except RecursionError:
        raise RefusedError(422, "body: is no JSON of patients: too many brackets") from None
    except ValueError as error:  # says where, and not what
        raise RefusedError(422, f"body: is no JSON: {error}") from None
    if isinstance(said, dict):
        _check_counts(said, limits)
        for number, patient in enumerate(_maps(said, "patients")):
            _validate_pieces(_EVENTS, patient, "events", ("patients", number))
        _validate_pieces(_CODES, said, "codes", ())
    try:
        return Request.model_validate(said)
    except ValidationError as error:
        raise _misunderstood(error) from None


def _check_counts(said: dict[str, Any], limits: Limits) -> None:
    """Of what is there, be it right or wrong.

    Raises:
        RefusedError: there is more than the limits allow.
    """
    patients = [*_maps(said, "patients")]
    n_events = [_length(patient, "events") for patient in patients]
    n_times = [_length(patient, "prediction_times") for patient in patients]
    n_pairs = sum(events * times for events, times in zip(n_events, n_times, strict=True))
    n_images = sum(
        event.get("image") is not None for patient in patients for event in _maps(patient, "events")
    )
    n_codes = sum(1 + _length(code, "parent_codes") for code in _maps(said, "codes"))
    for count, most, what, remedy in (
        (_length(said, "patients"), limits.patients, "patients", "send fewer at once"),
        (sum(n_events), limits.events, "events", "send fewer patients"),
        (sum(n_times), limits.samples, "prediction times", "send fewer at once"),
        (n_pairs, limits.pairs, "pairs of an event and a prediction time", "send fewer times"),
        (n_images, limits.images, "images", "send fewer at once"),
        (n_codes, limits.events, "codes and their parents", "send those of the events alone"),
    ):
        if count > most:
            raise RefusedError(413, f"{count:,} {what} are more than {most:,}; {remedy}")


def _maps(said: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """The objects of a list; an empty one in place of whatever else is in it."""
    found = said.get(key)
    for each in found if isinstance(found, list) else ():
        yield each if isinstance(each, dict) else {}


def _length(said: dict[str, Any], key: str) -> int:
    found = said.get(key)
    return len(found) if isinstance(found, list) else 0


def _validate_pieces(adapter: TypeAdapter[Any], said: dict[str, Any], key: str, at: Place) -> None:
    """Put the validated in place of what was said, which is left as it is if it is no list."""
    found = said.get(key)
    if not isinstance(found, list):
        return
    for start in range(0, len(found), PIECE):
        try:
            found[start : start + PIECE] = adapter.validate_python(found[start : start + PIECE])
        except ValidationError as error:
            raise _misunderstood(error, (*at, key), start) from None


def _misunderstood(error: ValidationError, at: Place = (), start: int = 0) -> RefusedError:
    """What is wrong with a request, without what it says.

    Args:
        error: of the request; or of a piece of a list, which `at` names and `start` places.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    said = [f"{_name(one['loc'], at, start)}: {one['msg']}" for one in found[:SHOWN]]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return RefusedError(422, "; ".join(said) + more)


def _name(place: Place, at: Place, start: int) -> str:
    parts: Iterable[str | int] = place
    if at:
        assert isinstance(place[0], int)
        parts = (*at, start + place[0], *place[1:])
    return ".".join(map(str, parts)) or "body"
