"""A body becomes a request, or is refused in words that repeat nothing of it."""

from clinical.serving import Limits
from clinical.serving import reading as reading_module
from clinical.serving.limits import RefusedError
from clinical.serving.messages import Request
from clinical.serving.reading import PIECE, read_request

import json
from typing import Any

import pytest


def body(events: list[Any], **more: Any) -> dict[str, Any]:
    patient = {"subject_id": 1, "prediction_times": ["2020-01-01T00:00:00"], "events": events}
    return {"patients": [patient], **more}


def read(said: Any, limits: Limits | None = None) -> Request:
    return read_request(json.dumps(said).encode(), limits or Limits())


def test_read_in_pieces_it_is_what_it_is_when_read_at_once():
    events = [{"code": f"C{n}", "numeric_value": n} for n in range(2 * PIECE + 1)]
    codes = [{"code": f"C{n}", "parent_codes": ["A"]} for n in range(PIECE + 1)]
    said = body(events, codes=codes)
    assert read(said) == Request.model_validate(said)


def test_a_mistake_in_a_later_piece_is_told_by_its_own_place():
    events = [{"code": "HR"}] * PIECE + [{"code": "SECRET", "value": "SECRET"}]
    with pytest.raises(RefusedError) as refused:
        read(body(events))
    assert refused.value.status == 422
    assert refused.value.remedy == (
        f"patients.0.events.{PIECE}.value: Extra inputs are not permitted"
    )


def test_of_many_mistakes_the_first_are_told_and_the_rest_counted():
    with pytest.raises(RefusedError, match=r"patients.0.events.4.code: Field .*; and 3 more$"):
        read(body([{}] * 8))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (body([{}] * 4), "4 events are more than 3"),
        ({"patients": [*body([{}] * 2)["patients"] * 2]}, "4 events are more than 3"),
        (body([{}], codes=[{"code": "A"}] * 4), "4 codes and their parents are more than 3"),
        (body([{}], codes=[{"parent_codes": [""] * 3}]), "4 codes and their parents are more"),
        ({"patients": [{"prediction_times": [0] * 5}]}, "5 prediction times are more than 4"),
        (
            {"patients": [{"prediction_times": [0] * 3, "events": [0] * 2}]},
            "6 pairs of an event and a prediction time are more than 5",
        ),
        (body([{"image": None}, {"image": ""}, {"image": ""}]), "2 images are more than 1"),
        ({"patients": [0] * 3}, "3 patients are more than 2"),
    ],
)
def test_counts_are_checked_before_anything_is_validated(said, words, monkeypatch):
    monkeypatch.setattr(reading_module, "_validate_pieces", None)
    with pytest.raises(RefusedError, match=words) as refused:
        read(said, Limits(patients=2, events=3, samples=4, pairs=5, images=1))
    assert refused.value.status == 413


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"SECRET": SECRET}'])
def test_what_is_no_json_is_told_without_what_it_says(content):
    with pytest.raises(RefusedError, match="body: is no JSON") as refused:
        read_request(content, Limits())
    assert "SECRET" not in refused.value.remedy
