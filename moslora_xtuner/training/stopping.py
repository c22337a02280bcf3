"""A training that is asked to stop ends its step, saves, and leaves; all of its processes after the same step."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from .agreement import on_any_process
from .checkpoints.save import Checkpoints, within_a_step
from .run_folder import ASKED, STOPPED


class StopWhenAsked(Hook):
    """Save and leave after the step in which a process was told to: by a signal, or by a file in the run's folder.

    A first SIGINT, SIGTERM or SIGHUP asks, a second one ends the process at once. All processes agree in each whole
    step: one that left alone would leave the others waiting.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self.number: int | None = None

    def before_train(self, runner: Any) -> None:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._asked)

    def _asked(self, number: int, frame: object) -> None:
        if self.number is not None:
            os._exit(128 + number)
        self.number = number

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """At the end of a whole step, agree, save and leave."""
        done = runner.iter + 1
        if within_a_step(runner) or done >= runner.max_iters:
            return
        asked = self.number is not None or (is_main_process() and (Path(runner.work_dir) / ASKED).exists())
        if not on_any_process(asked):
            return
        hook = next((hook for hook in runner.hooks if isinstance(hook, Checkpoints)), None)
        saved = hook is not None and hook.saved == done
        if hook is not None and not saved:
            hook.save(runner)
        if is_main_process():
            where = f"iter_{done}.pth is saved" if hook is not None else "nothing is saved, for want of Checkpoints"
            sys.stderr.write(f"{STOPPED}iteration {done} of {runner.max_iters}; {where}\n")
            sys.stderr.flush()
        raise SystemExit(128 + (self.number or signal.SIGINT))
