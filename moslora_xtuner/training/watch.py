"""No process of a training waits for ever for one that hangs."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from mmengine.hooks import Hook

from ..errors import TrainingError
from .starters import leave


class Watchdog(Hook):
    """End a training in which nothing happens: one of its processes hangs, and the others would wait for it.

    Each process looks at itself; one that is stopped cannot, but all others wait for it, and each then says where.

    Args:
        minutes: without a step; saving does not count, and a batch of a validation counts as a step. The first step
            may take three times as long.
    """

    priority = "VERY_HIGH"

    def __init__(self, minutes: float = 10.0) -> None:
        self.seconds = 60 * minutes
        self._last, self._patience = time.monotonic(), 3 * self.seconds
        self._busy = False
        self._ended = threading.Event()

    def before_train(self, runner: Any) -> None:
        """Begin to look."""
        self._last = time.monotonic()
        self._ended.clear()
        threading.Thread(target=self._look, daemon=True, name="watchdog").start()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note that a step is done."""
        self._last, self._patience, self._busy = time.monotonic(), self.seconds, False

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Do not look while a checkpoint is written, however long that takes."""
        self._busy = True

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """The batch is there: what was written is written."""
        self._last, self._busy = time.monotonic(), False

    def alive(self) -> None:
        """Note that something is done between two steps, as a validation."""
        self._last = time.monotonic()

    def stop(self) -> None:
        """Look no more: the loop has ended, or failed (loop.TrainLoop)."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(min(5.0, self.seconds / 4)):
            waited = time.monotonic() - self._last
            if self._busy or waited < self._patience:
                continue
            with suppress(OSError, ValueError):
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
            rank = os.environ.get("RANK", "0")
            said = f"no step for {waited:.0f} s: a process hangs, and process {rank} waits (its stacks stand above)"
            leave(f"{TrainingError.__module__}.{TrainingError.__name__}: {said}\n")
