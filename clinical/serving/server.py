"""Running the server, on this machine alone unless it is said clearly that others may ask it."""

from clinical.errors import ConfigError
from clinical.predictor import Predictor
from clinical.serving.app import make_app
from clinical.serving.limits import Limits
from clinical.training.checkpoint import thread_limit

import ipaddress
import logging
from pathlib import Path

import uvicorn

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
PORT = 8000
BESIDES = 16
"""Connections beyond those of requests that are scored or wait: for health, and for refusals."""


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
