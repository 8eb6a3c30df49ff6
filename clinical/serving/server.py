"""Running the server, on this machine alone unless it is said clearly that others may ask it."""

from clinical.errors import ConfigError
from clinical.predictor import Predictor
from clinical.serving.app import make_app
from clinical.serving.limits import Limits
from clinical.training.checkpoint import thread_limit

import asyncio
import ipaddress
import logging
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
PORT = 8000
BESIDES = 256
"""Connections beyond those of requests that are scored or wait: for health, and for refusals. They
cost little, as no body is read before there is a place for it."""
HEAD_SECONDS = 10.0
"""Within which the head of a request has to come, the first of a connection and each after it."""


class HeadsInTime(H11Protocol):
    """HTTP that ends connections which ask nothing; uvicorn would keep them for ever."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on, and no longer for single bytes that come in between."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._overdue is None:
            self._overdue = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


def check_host(host: str, *, allow_remote: bool) -> None:
    """Refuse an address that other machines can reach, unless that was asked for.

    Raises:
        ConfigError: `host` is not of this machine alone.
    """
    if not allow_remote and not _is_loopback(host):
        raise ConfigError(
            f"host: {host} can be reached from other machines, and the server asks nobody who they "
            f"are; use {LOOPBACK} behind a proxy that does, or say --allow-remote"
        )


def serve(
    bundle: str | Path,
    *,
    context: str | Path | None = None,
    host: str = LOOPBACK,
    port: int = PORT,
    allow_remote: bool = False,
    limits: Limits | None = None,
) -> None:
    """Score patients over HTTP until interrupted.

    Args:
        bundle: folder of the bundle.
        context: extract whose samples may serve as contemporaries, as it is at the start.
        host, port: to listen at.
        allow_remote: other machines may reach it, and nobody is asked who they are.
        limits: what a request may take.

    Raises:
        ConfigError: `host` can be reached by others though that was not asked for.
        BundleError, SchemaError: as for `Predictor.load` and `Predictor.score`.
    """
    check_host(host, allow_remote=allow_remote)
    limits = limits or Limits()
    predictor = Predictor.load(bundle)
    hosts = ["*"] if not _is_loopback(host) else ["localhost", LOOPBACK, host, f"[{host}]"]
    app = make_app(predictor, limits, context=context, hosts=hosts)
    logger.info("serving %s at http://%s:%d; interrupt to stop", bundle, host, port)
    with thread_limit(1):
        uvicorn.run(
            app,
            host=host,
            port=port,
            http=HeadsInTime,
            access_log=False,  # a path may say more than it should
            log_config=None,
            server_header=False,
            limit_concurrency=limits.at_once + limits.waiting + BESIDES,
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
