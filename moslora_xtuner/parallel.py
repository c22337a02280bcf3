"""Work on many cores whose results come in the order of the jobs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

from .errors import MoSLoRAError

Job = TypeVar("Job")
Result = TypeVar("Result", covariant=True)


class Work(Protocol[Result]):
    """Made once in each process, then called with each job."""

    def __call__(self, job: Any, /) -> Result: ...


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(make: Callable[[], Work[Result]], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """The results of all jobs in their order; at most a few jobs a worker are under way at a time.

    Args:
        make: makes the work in each process; it and the jobs must pickle.
        jobs: read as they are needed.
        workers: processes. With one, or with one job, all is done in this process.

    Raises:
        MoSLoRAError: a process was ended from outside, mostly because the memory was full.
        Exception: what the work raised.
    """
    jobs = iter(jobs)
    first = list(islice(jobs, 2))
    if workers <= 1 or len(first) < 2:
        work = make()
        yield from (work(job) for job in chain(first, jobs))
        return
    # Not forked: the threads of Arrow and of the tokenizers do not survive that.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (make, os.getpid()))
    under_way: deque[Future[Result]] = deque()
    try:
        for job in chain(first, jobs):
            with no_main():
                under_way.append(pool.submit(_run, job))
            if len(under_way) > 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as fault:
        raise MoSLoRAError(
            "a worker process was ended from outside, mostly for want of memory: use fewer (--workers)"
        ) from fault
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def no_main() -> Iterator[None]:
    """Processes that start in here do not import the script that this one runs.

    WORK-AROUND Python (multiprocessing.spawn.get_preparation_data): a spawned process imports the parent's main
    module again, which a program typed at a prompt does not have, a training script pays for with seconds and
    gigabytes, and a script without a guard runs a second time. The work here needs nothing of it. Can go when spawn
    can be told so.
    """
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


_work: Work[Any] | None = None


def _begin(make: Callable[[], Work[Any]], parent: int) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends all in order
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    _work = make()


def end_with(parent: int) -> None:
    """End when the main process has been killed: nobody would ever ask again."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _run(job: Any) -> Any:
    assert _work is not None
    return _work(job)
