"""Which checkpoint a run goes on from, however it is asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import MoSLoRAError, TrainingError
from ...progress import note
from .mark import require_newest


def chosen(folder: Path) -> Path | None:
    """The newest checkpoint of a run that is complete and sound; None where there is none at all.

    Which newer ones are passed over, and why, is said. Raises TrainingError when none can be trusted.
    """
    found = require_newest(folder)
    for name, why in found.passed:
        note(f"{folder / name} is passed over: {why}")
    return found.path


def choose_by_marks() -> None:
    """WORK-AROUND mmengine 0.10.6 (runner/checkpoint.py): it resumes from whatever `last_checkpoint` says.

    That is an absolute path, so that a copied folder resumes from the original; it is not written atomically, so that
    it may be empty, which then means `.`; without it the run starts over and says nothing. Here the newest complete
    and sound checkpoint is taken (mark.py), and the hook that writes them sees it first. Can go when mmengine looks at
    the checkpoints themselves.
    """
    from mmengine.runner import FlexibleRunner, Runner

    kinds: tuple[Any, ...] = (Runner, FlexibleRunner)
    for kind in kinds:
        kind.load_or_resume = _looking_first(kind.load_or_resume)


def _looking_first(stock: Any) -> Any:
    def load_or_resume(self: Any) -> None:
        resumed: Path | None = None
        if self._resume and self._load_from is None:
            resumed = _agreed(Path(self.work_dir))
            # Without one the run begins, as `--resume auto` promises.
            self._resume, self._load_from = resumed is not None, None if resumed is None else str(resumed)
        elif self._resume:
            resumed = Path(str(self._load_from).rstrip("/"))
        for hook in self.hooks:
            if hasattr(hook, "before_loading"):
                hook.before_loading(self, resumed)
        stock(self)

    return load_or_resume


def _agreed(folder: Path) -> Path | None:
    """What the first process chooses: all files are read for it, and once is enough."""
    from mmengine.dist import broadcast_object_list, is_main_process

    found: list[tuple[str | None, str]] = [(None, "")]
    if is_main_process():
        try:
            path = chosen(folder)
            found = [(None if path is None else str(path), "")]
        except MoSLoRAError as fault:
            found = [(None, str(fault))]
    broadcast_object_list(found)
    named, wrong = found[0]
    if wrong:
        raise TrainingError(wrong)
    return None if named is None else Path(named)
