"""What a function costs: each in a process of its own, so that peaks don't add up."""

import multiprocessing
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Of one call.

    Attributes:
        seconds: by the clock.
        core_seconds: of the cores.
        peak_mb: resident memory at its highest.
    """

    seconds: float
    core_seconds: float
    peak_mb: float

    def after(self, before: "Cost") -> "Cost":
        """Of two calls, one after the other."""
        return Cost(
            before.seconds + self.seconds,
            before.core_seconds + self.core_seconds,
            max(before.peak_mb, self.peak_mb),
        )


def measured(function: Callable[..., None], *args: Any) -> Cost:
    """Call a function, which must be importable by name, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (function, *args))


def _measure(function: Callable[..., None], *args: Any) -> Cost:
    started, busy = time.perf_counter(), time.process_time()
    function(*args)
    seconds, core_seconds = time.perf_counter() - started, time.process_time() - busy
    return Cost(seconds, core_seconds, _peak_mb())


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there begins with the parent's peak
        (line,) = (s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
