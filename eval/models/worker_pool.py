"""Several processes that answer batches from one queue, each with the model in its own memory.

The main process alone writes. It sends a free process the next batch and takes answers as they come; a process that
ends unasked (killed, or out of memory) costs the batch that it had, which goes to the others.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, cast

from moslora_xtuner.errors import EvaluationError, MoSLoRAError
from moslora_xtuner.parallel import cores, end_with, no_main
from moslora_xtuner.progress import note

from ..tasks.prompts import Question

Batch = Sequence[Question]
TRIES = 3
"""How many processes a batch may bring down before it is blamed."""


@dataclass(frozen=True)
class Unanswered:
    """What stands for an answer that the model would not give, though it answers other questions; and why."""

    reason: str


class Answerer(Protocol):
    """What a process makes once and then asks."""

    def answer_batch(self, questions: Batch, /) -> list[str]: ...


Make = Callable[[int, int], Answerer]
"""Makes the answerer of one process: its number, and how many there are. It must pickle."""


def own_device(number: int, count: int) -> str:
    """The device of process `number` of `count`: a GPU of its own, or its share of the cores."""
    import torch

    gpus = torch.cuda.device_count()
    if not gpus and count > 1:
        torch.set_num_threads(max(1, cores() // count))
    return f"cuda:{number % gpus}" if gpus else "cpu"


class Pool(Protocol):
    """What answers batches: one process, several, or a server."""

    def run(self, batches: Sequence[Batch], /) -> Iterator[tuple[int, Sequence[str | Unanswered]]]:
        """Yield each batch's number and answers as they are done."""
        ...

    def close(self) -> None:
        """End it, also at work."""
        ...


class InProcess:
    """A pool of one process: this one."""

    def __init__(self, make: Make) -> None:
        self.answerer = make(0, 1)

    def run(self, batches: Sequence[Batch]) -> Iterator[tuple[int, list[str]]]:
        """Yield each batch's number and answers."""
        for number, batch in enumerate(batches):
            yield number, self.answerer.answer_batch(batch)

    def close(self) -> None:
        """Nothing to end."""


class Processes:
    """`count` processes, which start at once and load the model at the same time.

    Raises EvaluationError when all have ended, or one batch has ended several of them.
    """

    def __init__(self, make: Make, count: int) -> None:
        # Not forked: neither CUDA nor the threads of the tokenizers survive that.
        context = multiprocessing.get_context("spawn")
        self.workers: dict[Connection, Any] = {}
        for number in range(count):
            here, there = context.Pipe()
            arguments = (there, make, number, count, os.getpid())
            worker = context.Process(target=_serve, args=arguments, daemon=True)
            with no_main():
                worker.start()
            there.close()
            self.workers[here] = worker
        self.count, self.free = count, set[Connection]()

    def run(self, batches: Sequence[Batch]) -> Iterator[tuple[int, list[str]]]:
        """Yield each batch's number and answers as they are done, in any order."""
        queue = deque(range(len(batches)))
        under_way: dict[Connection, int] = {}
        ended: dict[int, int] = {}
        left = len(batches)
        while left:
            for connection in sorted(self.free, key=lambda c: self.workers[c].pid)[: len(queue)]:
                number = queue.popleft()
                under_way[connection] = number
                self.free.discard(connection)
                with suppress(OSError):  # one that has just ended shows it below
                    connection.send(batches[number])
            for connection in cast(list[Connection], wait(list(self.workers))):
                try:
                    what, content = connection.recv()
                except (EOFError, OSError, pickle.UnpicklingError):
                    lost = self._bury(connection, under_way.pop(connection, None))
                    if lost is not None:
                        ended[lost] = ended.get(lost, 0) + 1
                        if ended[lost] >= TRIES:
                            raise EvaluationError(
                                f"one batch of {len(batches[lost])} questions has ended {TRIES} processes, mostly for "
                                "want of memory: answer fewer at a time (--batch-size)"
                            ) from None
                        queue.appendleft(lost)
                    continue
                if what == "fault":
                    raise content
                self.free.add(connection)
                if what == "answers":
                    left -= 1
                    yield under_way.pop(connection), content

    def _bury(self, connection: Connection, batch: int | None) -> int | None:
        """Take a process that has ended off the list; returns the batch that it had."""
        worker = self.workers.pop(connection)
        self.free.discard(connection)
        connection.close()
        worker.join()
        how = f"signal {-worker.exitcode}" if (worker.exitcode or 0) < 0 else f"status {worker.exitcode}"
        if not self.workers:
            raise EvaluationError(
                f"every process that answered has ended (the last with {how}), mostly for want of memory: the answers "
                "so far are kept; run the same command again with fewer --processes or a smaller --batch-size"
            )
        note(f"One of {self.count} processes has ended ({how}): its batch goes to the others, which are slower now")
        return batch

    def close(self) -> None:
        """End all processes, also those at work."""
        for connection, worker in self.workers.items():
            worker.kill()
            worker.join()
            connection.close()
        self.workers, self.free = {}, set()


def _serve(connection: Connection, make: Make, number: int, count: int, parent: int) -> None:
    """The life of one process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends all in order
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    try:
        answerer = make(number, count)
        connection.send(("ready", None))
        while True:
            connection.send(("answers", answerer.answer_batch(connection.recv())))
    except (EOFError, BrokenPipeError):  # the main process has gone
        return
    except MoSLoRAError as fault:
        connection.send(("fault", fault))
    except Exception as fault:
        connection.send(("fault", EvaluationError(f"answering failed: {type(fault).__name__}: {fault}")))
