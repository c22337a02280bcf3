"""The hook that writes a run's checkpoints, and restores what mmengine and DeepSpeed leave out of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import barrier, broadcast_object_list, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook

from ...atomic import PARTIAL, remove
from ...errors import ConfigError, OutputError
from ...progress import note
from ..finite import require_finite
from ..unwrap import unwrapped
from . import random_states
from .mark import MARK, Mark, checkpoints, complete, contents, state_of
from .setting import require_same, setting_of


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
        found = [setting_of(runner.cfg, get_world_size(), accumulation_of(runner)) if is_main_process() else {}]
        broadcast_object_list(found)  # it reads files: one process does
        self.setting = found[0]
        self.resumed = resumed
        if resumed is not None and (state_of(resumed) / MARK).is_file():
            require_same(Mark.read(state_of(resumed) / MARK).setting, self.setting, resumed)

    def before_train(self, runner: Any) -> None:
        """Go on with the random states of the checkpoint; without them dropout differs, and that is said."""
        self.saved = runner.iter
        if self.resumed is None:
            return
        file = state_of(self.resumed) / f"random_{get_rank()}.pt"
        for hook in _with_state(runner):
            hook.read_state(state_of(self.resumed))
        if file.is_file():
            random_states.restore(file)
        elif is_main_process():
            note(f"{self.resumed.name} holds no random states: dropout differs from that of an undisturbed run")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save where one is due: at the end of a step of the optimiser, never within its accumulation."""
        if within_a_step(runner):
            return
        done, last = runner.iter + 1, runner.iter + 1 >= runner.max_iters
        if is_due(self.interval, done, self.saved) or (last and self.save_last):
            self.save(runner)

    def save(self, runner: Any) -> None:
        """Write a checkpoint of the step that has just ended. All processes call it together."""
        folder, done = Path(runner.work_dir), runner.iter + 1
        require_finite(unwrapped(runner.model), f"after iteration {done}")
        final = folder / f"iter_{done}.pth"
        partial = folder / f"{PARTIAL}{final.name}"
        beside = folder / f"{PARTIAL}{state_of(final).name}"
        if is_main_process():
            for left in folder.glob(f"{PARTIAL}*"):
                remove(left)
            beside.mkdir(parents=True)
        barrier()
        try:
            random_states.write(beside / f"random_{get_rank()}.pt")
            for hook in _with_state(runner) if is_main_process() else ():
                hook.write_state(beside)
            runner.save_checkpoint(
                str(folder), partial.name, None, save_optimizer=True, save_param_scheduler=True, by_epoch=False
            )
            barrier()
            if is_main_process():
                self._finish(partial, beside, final, done)
        except OSError as fault:
            raise OutputError(
                f"{final} cannot be written ({fault.strerror or fault}): the one before it is kept"
            ) from fault
        barrier()
        self.saved = done

    def _finish(self, partial: Path, beside: Path, final: Path, done: int) -> None:
        """Name it, mark it as complete, and only then let go of an older one."""
        folder, state = final.parent, state_of(final)
        complete(
            partial, beside, final, lambda: Mark(done, get_world_size(), contents(folder, final, state), self.setting)
        )
        if self.keep > 0:
            older = [path for path in checkpoints(folder) if path != final and (state_of(path) / MARK).is_file()]
            for path in older[self.keep - 1 :]:
                remove(state_of(path))  # first: without its mark nobody takes what is left for a checkpoint
                remove(path)


def _with_state(runner: Any) -> list[Any]:
    """The hooks that a resumed run needs something of: `write_state(folder)` and `read_state(folder)`."""
    return [hook for hook in runner.hooks if getattr(hook, "keeps_state", False)]


def accumulation_of(runner: Any) -> int:
    """Iterations of a step of the optimiser, as the loop counts them."""
    return int(getattr(runner.train_loop, "accumulation", 1))


def is_due(interval: int, done: int, before: int) -> bool:
    """Whether something that comes every so many iterations has come round since it was done last."""
    return interval > 0 and done // interval > before // interval


def within_a_step(runner: Any) -> bool:
    """Whether the iteration that has just ended leaves a step of the optimiser open; a run's last one never does."""
    done = runner.iter + 1
    return bool(done % accumulation_of(runner)) and done < runner.max_iters
