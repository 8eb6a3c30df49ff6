"""The HTTP interface: scores, health, and an OpenAPI schema; nothing of a request is logged."""

from clinical.errors import ClinicalError
from clinical.predictor import Predictor
from clinical.serving.limits import Limits, RefusedError, Slots
from clinical.serving.messages import Answer, Health, Refusal, Request
from clinical.serving.reading import read_request
from clinical.serving.scoring import Scorer

import logging
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

logger = logging.getLogger(__name__)

SILENT: dict[str, Any] = {
    "tracing": False,
    "metrics": False,
    # They would hold what a request says of patients that FastAPI reads and does not understand.
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
JSON = "application/json"
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Request"}}},
    }
}
DESCRIPTION = (
    "Scores of patients by a finished model, the same as those of the command clinical score. Not "
    "a medical device, and not meant for decisions about patients."
)
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        400: "The request is for another host.",
        408: "Its body does not come.",
        413: "Of too many patients or events; one of too many bytes is refused with a text.",
        415: "It does not say that it is JSON.",
        422: "It is not understood, or its events break the schema.",
        500: "A defect of ours.",
        503: "Too many requests are waiting.",
        504: "It took too long.",
    }.items()
}


def make_app(
    predictor: Predictor,
    limits: Limits | None = None,
    *,
    context: str | Path | None = None,
    hosts: Sequence[str] = ("*",),
) -> FastAPI:
    """The application, to be run by a server.

    Args:
        predictor: of a finished bundle.
        limits: what a request may take.
        context: extract whose samples may serve as unlabelled contemporaries.
        hosts: names under which it may be asked. One for this machine alone should name itself, or
            a web page that somebody opens there could ask under a name of its own.
    """
    limits = limits or Limits()
    scorer, slots = Scorer(predictor, limits, context), Slots(limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        slots.close()
        scorer.close()

    app = FastAPI(
        title="clinical",
        description=DESCRIPTION,
        # Pages of documentation would fetch their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=SILENT,  # type: ignore[arg-type]
        max_body_size=limits.n_bytes,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)

    @app.get("/health")
    async def health() -> Health:
        """Whether the server can take a request."""
        return Health(
            status="busy" if slots.is_full else "ok",
            bundle=scorer.bundle,
            running=slots.running,
            waiting=slots.waiting,
        )

    @app.post("/score", response_model=Answer, responses=REFUSALS, openapi_extra=BODY)
    async def score(http: HttpRequest) -> JSONResponse:
        """Score patients."""
        began = time.monotonic()
        try:
            _check_type(http)
            answer = await slots.do(http.body, partial(_answer, scorer, limits))
        except RefusedError as error:
            logger.info("refused: %d", error.status)
            return _say(error.status, error.remedy)
        except ClientDisconnect:
            return _say(400, "the connection ended before the body")  # for nobody
        took = time.monotonic() - began
        logger.info("answered in %.2f s", took)
        return JSONResponse(answer)

    _describe_body(app.openapi())
    return app


def _check_type(http: HttpRequest) -> None:
    """Refuse what does not say that it is JSON: any web page may make a browser send it.

    Raises:
        RefusedError: of the type of the body.
    """
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise RefusedError(415, f"content-type: is not {JSON}; send JSON, and say so")


def _describe_body(described: dict[str, Any]) -> None:
    """Add a request to the OpenAPI schema: read in a thread, it is no parameter of ours."""
    request = Request.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = request.pop("$defs")
    described["components"]["schemas"].update({**parts, "Request": request})


def _answer(scorer: Scorer, limits: Limits, body: bytes) -> dict[str, Any]:
    """What a body gets, in a thread; whatever goes wrong, no message of another library leaves it.

    Raises:
        RefusedError: there is no answer.
    """
    try:
        answer = scorer.answer(read_request(body, limits))
        return answer.model_dump(mode="json", by_alias=True)
    except RefusedError:
        raise
    except ClinicalError as error:
        raise RefusedError(422, str(error)) from None
    except Exception as error:  # noqa: BLE001  (its message may hold what a patient's record says)
        last = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("defect: %s in %s, line %s", type(error).__name__, last.filename, last.lineno)
        raise RefusedError(500, "this is a defect of ours; the server's log says where") from None


def _say(status: int, text: str) -> JSONResponse:
    return JSONResponse(Refusal(error=text).model_dump(), status_code=status)
