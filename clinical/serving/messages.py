"""What a request and its answer look like; the OpenAPI schema is made of these."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NaiveDatetime,
    WithJsonSchema,
)

INT64 = 2**63
Whole = Annotated[int, Field(ge=-INT64, lt=INT64, strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False)]


def _decoded(text: object) -> bytes:
    """The bytes that a text stands for.

    Raises:
        ValueError: it is no base64.
    """
    try:
        return base64.b64decode(text, validate=True)  # type: ignore[arg-type]
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("is no base64 of a file") from None


File = Annotated[
    bytes,
    BeforeValidator(_decoded),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class Message(BaseModel):
    """Unknown keys are refused: a misspelt one would silently be a missing value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Event(Message):
    """A MEDS event; without a time it is static and always visible."""

    code: Annotated[str, Field(min_length=1, description="As in the extract of the training.")]
    time: Annotated[
        NaiveDatetime | None,
        Field(description="When it became available, without a time zone; null for static facts."),
    ] = None
    numeric_value: Number | None = None
    text_value: Annotated[str | None, Field(description="Such as the text of a note.")] = None
    image: Annotated[
        File | None,
        Field(description="The file of an image (PNG, JPEG, DICOM, NIfTI), in base64."),
    ] = None


class Patient(Message):
    """A person, whole: all events that the model may see, and when to predict."""

    subject_id: Annotated[
        Whole, Field(description="As in the training's extract, if the person was in it.")
    ]
    prediction_times: Annotated[
        list[NaiveDatetime],
        Field(min_length=1, description="Later events are not looked at. No time zone."),
    ]
    events: Annotated[list[Event], Field(min_length=1)]


class Code(Message):
    """A line of MEDS' metadata/codes.parquet."""

    code: Annotated[str, Field(min_length=1)]
    parent_codes: list[str] = []


class Request(Message):
    """Patients to score."""

    patients: Annotated[list[Patient], Field(min_length=1)]
    dataset_name: Annotated[
        str,
        Field(description="Of the extract they come from; relations in time need the training's."),
    ] = "request"
    consistent_calendar: Annotated[
        bool, Field(description="Dates are not shifted per patient and can be compared.")
    ] = False
    codes: Annotated[
        list[Code],
        Field(description="What codes are cases of, for codes that the model may not know."),
    ] = []


class Prediction(Message):
    """A score; the columns of `clinical score`."""

    patient: Annotated[int, Field(description="Place in the request, from 0.")]
    prediction_time: datetime
    task: str
    kind: str
    score: Annotated[
        float | None,
        Field(description="A probability, a risk by the horizon, or a value; null with a reason."),
    ]
    class_: Annotated[str | None, Field(alias="class", serialization_alias="class")] = None
    horizon_hours: float | None = None
    in_set: bool | None = None
    other_in_set: bool | None = None
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    calibration: str
    reason: str | None = None
    modalities: Annotated[str, Field(description="Those that were read, joined by +.")]
    typicality: Annotated[
        float | None,
        Field(description="Of the calibration patients so many were no more typical; low is rare."),
    ] = None


class Answer(Message):
    """The scores of a request, of each patient in turn."""

    bundle: Annotated[str, Field(description="SHA-256 of the manifest of the model.")]
    predictions: list[Prediction]


class Health(Message):
    """Whether the server can take a request."""

    status: Literal["ok", "busy"]
    bundle: str
    running: int
    waiting: int


class Refusal(Message):
    """Why there is no answer, and what to do; it repeats nothing of the request."""

    error: str
