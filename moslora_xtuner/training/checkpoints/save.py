"""The hook that writes a run's checkpoints, and restores what mmengine and DeepSpeed leave out of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook

from ...atomic import atomic_json, atomic_write, bring_to_disk
from ...errors import ConfigError, OutputError
from ...llm.weights import content_of
from ...progress import note
from ..artifacts import LLM, VISUAL_ENCODER
from ..finite import plain, require_finite
from . import random_states
from .mark import LAST, MARK, Mark, checkpoints, contents, state_of
from .setting import loaded_from, require_same, setting_of

PARTIAL = ".partial-"
"""Begins the names under which a checkpoint is written: nobody takes them for one."""


class Checkpoints(Hook):
    """Save at whole steps of the optimiser: beside the final name, flushed, renamed, and marked as complete last.

    `WORK_DIR/iter_N.pth` is what mmengine or DeepSpeed writes, `iter_N.state/` holds the random states of each process
    and the mark (mark.py). Older ones are removed once the new one is complete.

    Args:
        interval: iterations between two; at the first whole step that is due. -1: none.
        max_keep_ckpts: complete ones that are kept; -1: all.
        save_last: also after the last step.
        by_epoch: for configs written for mmengine's hook; epochs are not counted here.

    Raises:
        ConfigError: `by_epoch`; a resumed run would go on with other settings than it began with.
    """

    priority = "VERY_LOW"

    def __init__(
        self, interval: int = -1, max_keep_ckpts: int = -1, save_last: bool = True, by_epoch: bool = False
    ) -> None:
        if by_epoch:
            raise ConfigError("default_hooks.checkpoint.by_epoch: this hook counts iterations, set interval in those")
        self.interval, self.keep, self.save_last = interval, max_keep_ckpts, save_last
        self.saved = 0
        self.setting: dict[str, Any] = {}
        self.resumed: Path | None = None

    def before_loading(self, runner: Any, resumed: Path | None) -> None:
        """Compare a run that is to be resumed with how it began, before anything of it is loaded (resume.py)."""
        self.setting = setting_of(runner.cfg, get_world_size(), _accumulation(runner))
        self.setting |= dict(_bases(runner.cfg))
        self.resumed = resumed
        if resumed is not None and (state_of(resumed) / MARK).is_file():
            require_same(Mark.read(state_of(resumed) / MARK).setting, self.setting, resumed)

    def before_train(self, runner: Any) -> None:
        """Go on with the random states of the checkpoint; without them dropout differs, and that is said."""
        self.saved = runner.iter
        if self.resumed is None:
            return
        file = state_of(self.resumed) / f"random_{get_rank()}.pt"
        if file.is_file():
            random_states.restore(file)
        elif is_main_process():
            note(f"{self.resumed.name} holds no random states: dropout differs from that of an undisturbed run")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save where one is due: at the end of a step of the optimiser, never within its accumulation."""
        done, last = runner.iter + 1, runner.iter + 1 >= runner.max_iters
        if done % _accumulation(runner) and not last:
            return
        due = self.interval > 0 and done // self.interval > self.saved // self.interval
        if due or (last and self.save_last):
            self.save(runner)

    def save(self, runner: Any) -> None:
        """Write a checkpoint of the step that has just ended. All processes call it together."""
        folder, done = Path(runner.work_dir), runner.iter + 1
        require_finite(plain(runner.model), f"after iteration {done}")
        final = folder / f"iter_{done}.pth"
        partial = folder / f"{PARTIAL}{final.name}"
        state, beside = state_of(final), folder / f"{PARTIAL}{state_of(final).name}"
        if is_main_process():
            for left in folder.glob(f"{PARTIAL}*"):
                _remove(left)
            beside.mkdir(parents=True)
        barrier()
        try:
            random_states.write(beside / f"random_{get_rank()}.pt")
            runner.save_checkpoint(
                str(folder), partial.name, None, save_optimizer=True, save_param_scheduler=True, by_epoch=False
            )
            barrier()
            if is_main_process():
                self._finish(partial, final, beside, state, done)
        except OSError as fault:
            raise OutputError(
                f"{final} cannot be written ({fault.strerror or fault}): the one before it is kept"
            ) from fault
        barrier()
        self.saved = done

    def _finish(self, partial: Path, final: Path, beside: Path, state: Path, done: int) -> None:
        """Name it, mark it as complete, and only then let go of an older one."""
        for path in (final, state):  # of an earlier start that was interrupted between the two
            _remove(path)
        _flush(partial)
        _flush(beside)
        partial.rename(final)
        folder = final.parent
        bring_to_disk(folder)
        random_files = {
            f"{state.name}/{name.split('/', 1)[1]}": found for name, found in contents(folder, beside).items()
        }
        mark = Mark(done, get_world_size(), {**contents(folder, final), **random_files}, self.setting)
        atomic_json(beside / MARK, mark.as_json())
        beside.rename(state)
        bring_to_disk(folder)
        atomic_write(folder / LAST, final.name)
        if self.keep > 0:
            older = [path for path in checkpoints(folder) if path != final and (state_of(path) / MARK).is_file()]
            for path in older[self.keep - 1 :]:
                _remove(state_of(path))  # first: without its mark nobody takes what is left for a checkpoint
                _remove(path)


def _accumulation(runner: Any) -> int:
    return int(getattr(runner.train_loop, "accumulation", 1))


def _bases(config: Any) -> Iterator[tuple[str, Any]]:
    """What the base models are, by their content."""
    for part in (LLM, VISUAL_ENCODER):
        with suppress(ConfigError, OSError, KeyError, AttributeError):
            yield f"base.{part}", content_of(loaded_from(config, part))


def _flush(path: Path) -> None:
    for file in [*path.rglob("*"), path] if path.is_dir() else [path]:
        if file.is_dir():
            bring_to_disk(file)
        else:
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
