"""What a request may take: bytes, patients, events, room beside others and time."""

from clinical.errors import ConfigError

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

Found = TypeVar("Found")


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        megabytes: of its body.
        patients, events: in it; events of all its patients together.
        at_once: requests that are scored beside each other, a core each.
        waiting: requests that wait for that; more are turned away.
        seconds: from when a request is there to its answer, waiting included.
    """

    megabytes: float = 32.0
    patients: int = 64
    events: int = 500_000
    at_once: int = 1
    waiting: int = 8
    seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("megabytes", "patients", "events", "at_once", "seconds"):
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

    A request that took too long is answered, but nothing can stop its thread: it keeps its slot
    until it ends, so that no more work is ever under way than was allowed.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.at_once, thread_name_prefix="scoring")
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def running(self) -> int:
        """Requests being scored."""
        return min(self._taken, self._limits.at_once)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return max(self._taken - self._limits.at_once, 0)

    @property
    def is_full(self) -> bool:
        """The next request would be turned away."""
        return self._taken >= self._limits.at_once + self._limits.waiting

    async def do(self, work: Callable[[], Found]) -> Found:
        """The result of some work, done in a thread.

        Raises:
            RefusedError: too many others are waiting, or it takes too long.
        """
        with self._lock:
            if self.is_full:
                raise RefusedError(503, "too many requests are waiting; try again in a while")
            self._taken += 1
        future = self._pool.submit(work)
        # Called by whoever ends it, at its end, or when it is cancelled while it still waits.
        future.add_done_callback(lambda _: self._free())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.seconds)
        except TimeoutError:
            raise RefusedError(
                504, f"took more than {self._limits.seconds:g} s; send fewer patients, or wait"
            ) from None

    def _free(self) -> None:
        with self._lock:
            self._taken -= 1

    def close(self) -> None:
        """Take no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
