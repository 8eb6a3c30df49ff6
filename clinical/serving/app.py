"""The HTTP interface: scores, health, and an OpenAPI schema; nothing of a request is logged."""

from clinical.errors import ClinicalError
from clinical.predictor import Predictor
from clinical.serving.limits import Limits, RefusedError, Slots
from clinical.serving.messages import Answer, Health, Refusal, Request
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
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse

logger = logging.getLogger(__name__)

SHOWN = 5
"""Mistakes of a request that are told at once."""
SILENT: dict[str, Any] = {
    "tracing": False,
    "metrics": False,
    # They would hold what a request that is not understood says of patients.
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
DESCRIPTION = (
    "Scores of patients by a finished model, the same as those of the command clinical score. Not "
    "a medical device, and not meant for decisions about patients."
)
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        400: "The request is for another host.",
        413: "Of too many patients or events; one of too many bytes is refused with a text.",
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
    app.add_exception_handler(RequestValidationError, _misunderstood)

    @app.get("/health")
    async def health() -> Health:
        """Whether the server can take a request."""
        return Health(
            status="busy" if slots.is_full else "ok",
            bundle=scorer.bundle,
            running=slots.running,
            waiting=slots.waiting,
        )

    @app.post("/score", response_model=Answer, responses=REFUSALS)
    async def score(request: Request) -> JSONResponse:
        """Score patients."""
        began = time.monotonic()
        try:
            answer = await slots.do(partial(_answer, scorer, request))
        except RefusedError as error:
            logger.info("refused: %d", error.status)
            return _say(error.status, error.remedy)
        took = time.monotonic() - began
        logger.info("answered: %d patients in %.2f s", len(request.patients), took)
        return JSONResponse(answer.model_dump(mode="json", by_alias=True))

    return app


def _answer(scorer: Scorer, request: Request) -> Answer:
    """In a thread; whatever goes wrong, no message of another library leaves it.

    Raises:
        RefusedError: there is no answer.
    """
    try:
        return scorer.answer(request)
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


async def _misunderstood(http: HttpRequest, error: Exception) -> JSONResponse:
    """What is wrong with a request, without what it says."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    said = [
        f"{'.'.join(str(part) for part in one['loc'] if part != 'body') or 'body'}: {one['msg']}"
        for one in found[:SHOWN]
    ]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    logger.info("refused: 422")
    return _say(422, "; ".join(said) + more)
