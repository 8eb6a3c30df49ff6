"""Work that is divided among processes, with results in the order of the jobs."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def over_jobs(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int
) -> Iterator[Result]:
    """Apply a top-level function to every job, in this process where there is one worker or job.

    The first job in order that fails is the one whose error is raised, and no further one is begun.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from map(function, jobs)
        return
    context = worker_context(function.__module__)
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        try:
            yield from pool.map(function, jobs)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def worker_context(module: str) -> BaseContext:
    """How worker processes start that will call a function of the module.

    Not by forking this process, which would copy the thread pools of polars and torch in an
    unusable state. Where the platform has it, a server that has imported everything and started
    no thread is forked instead, so that only the first worker waits for the imports.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context
