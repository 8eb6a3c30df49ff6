"""What a request may take: bytes, patients, events, pixels, room beside others and time."""

from clinical.errors import ConfigError

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TypeVar

Found = TypeVar("Found")


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        megabytes: of its body.
        patients, events: in it; events of all its patients together.
        samples: prediction times of all its patients together.
        pairs: of an event and a prediction time of the same patient: what scoring has to look at.
        images: in it.
        megapixels: of all its images together when they are decoded, slices of volumes too.
        at_once: requests that are scored beside each other, a core each.
        waiting: requests that wait for that; more are turned away.
        seconds: from when a request's head is there to its answer, waiting included.
        body_seconds: of these, until its body is there.
    """

    megabytes: float = 32.0
    patients: int = 64
    events: int = 500_000
    samples: int = 1024
    pairs: int = 5_000_000
    images: int = 128
    megapixels: float = 256.0
    at_once: int = 1
    waiting: int = 8
    seconds: float = 60.0
    body_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "waiting"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: is {getattr(self, name)}; give more than 0")
        if self.waiting < 0:
            raise ConfigError(f"waiting: is {self.waiting}; give 0 or more")

    @property
    def n_bytes(self) -> int:
        """Of a body."""
        return int(self.megabytes * 1e6)


class RefusedError(Exception):
    """A request that gets no answer.

    Attributes:
        status: of HTTP.
        remedy: why, and what to do; never anything of the request.
    """

    def __init__(self, status: int, remedy: str) -> None:
        super().__init__(remedy)
        self.status = status
        self.remedy = remedy


class Slots:
    """Where requests are scored: a few at once, a few more wait, others are turned away.

    A request has its place from before its body is read, so that no more bodies are ever in memory
    than were allowed. One that took too long is answered, but nothing can stop its thread: it keeps
    its place until it ends, so that no more work is ever under way than was allowed.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.at_once, thread_name_prefix="scoring")
        self._lock = threading.Lock()
        self._taken = 0
        self._running = 0

    @property
    def running(self) -> int:
        """Requests being scored."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests that wait, or whose body is on its way."""
        return max(self._taken - self._running, 0)

    @property
    def is_full(self) -> bool:
        """The next request would be turned away."""
        return self._taken >= self._limits.at_once + self._limits.waiting

    async def do(
        self, arriving: Callable[[], Awaitable[bytes]], work: Callable[[bytes], Found]
    ) -> Found:
        """The result of some work, done in a thread.

        Args:
            arriving: gives the body of a request.
            work: what is done with it.

        Raises:
            RefusedError: too many others are waiting, the body does not come, or it all takes too
                long.
        """
        began = time.monotonic()
        with self._lock:
            if self.is_full:
                raise RefusedError(503, "too many requests are waiting; try again in a while")
            self._taken += 1
        limits = self._limits
        try:
            body = await asyncio.wait_for(arriving(), min(limits.body_seconds, limits.seconds))
            future = self._pool.submit(self._run, work, body)
        except BaseException as error:
            self._free()
            if isinstance(error, TimeoutError):
                raise RefusedError(408, "the body took too long to come; send it again") from None
            raise
        # Called by whoever ends it, at its end, or when it is cancelled while it still waits.
        future.add_done_callback(lambda _: self._free())
        left = limits.seconds - (time.monotonic() - began)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), left)
        except TimeoutError:
            raise RefusedError(
                504, f"took more than {limits.seconds:g} s; send fewer patients, or wait"
            ) from None

    def _run(self, work: Callable[[bytes], Found], body: bytes) -> Found:
        with self._lock:
            self._running += 1
        try:
            return work(body)
        finally:
            with self._lock:
                self._running -= 1

    def _free(self) -> None:
        with self._lock:
            self._taken -= 1

    def close(self) -> None:
        """Take no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
