"""A run's folder has one writer, and a result in it goes only when the next one is whole."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..atomic import remove
from ..errors import OutputError
from ..one_writer import lock, take
from .artifacts import ADAPTERS, MANIFEST
from .checkpoints.mark import checkpoints, state_of
from .starters import end_with_starters

LOCK = ".writer.lock"
_WORDS = {"writer": "training", "instead": "another --work-dir"}
ASKED = ".stop"
"""A file in a run's folder: its first process looks for it."""
STOPPED = "moslora: stopped after "
"""Begins the line that says so."""
VALIDATED = "moslora: validation "
"""Begins the line that tells a validation's loss."""
OVERWRITE = "MOSLORA_OVERWRITE"
"""The environment variable by which `moslora train --overwrite` tells the training; plain `xtuner train` may set it."""
_REPLACED = ".replaced"
"""What an overwritten run left: it goes when the new one is whole."""
_held: list[IO[str]] = []


def require_free(folder: Path) -> None:
    """Look whether nobody writes there now. Raises OutputError, naming the process."""
    with suppress(FileNotFoundError), (folder / LOCK).open("r+", encoding="utf-8") as handle:
        lock(folder, handle, **_WORDS)


def is_held(folder: Path) -> bool:
    """Whether somebody writes there now."""
    try:
        require_free(folder)
    except OutputError:
        return True
    return False


def hold(folder: Path) -> None:
    """Keep the folder for this process until it ends, however that is. Raises OutputError while another has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as fault:
        raise OutputError(f"{folder} cannot be written ({fault.strerror}): name another --work-dir") from fault
    take(folder, handle, **_WORDS)
    _held.append(handle)


def ask_to_stop(folder: Path) -> None:
    """Ask the run that writes to this folder (stopping.py)."""
    with suppress(OSError):
        (folder / ASKED).touch()


def no_more_asked(folder: Path) -> None:
    """Forget what an earlier run was asked."""
    (folder / ASKED).unlink(missing_ok=True)


def require_new(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to lose what a run has left.

    Args:
        folder: of the run.
        resume: whether it is to go on.
        overwrite: whether it may begin anew.

    Raises:
        OutputError: it is finished, or has checkpoints, and nobody said what is to become of that.
    """
    if overwrite:
        return
    if (folder / ADAPTERS / MANIFEST).is_file():
        raise OutputError(
            f"{folder} holds a finished run: --overwrite trains again and replaces it once the new one is whole; or "
            "name another --work-dir"
        )
    left = checkpoints(folder)
    if left and not resume:
        raise OutputError(
            f"{folder} holds an unfinished run ({left[0].name}): --resume auto goes on, --overwrite begins anew"
        )


def set_aside(folder: Path) -> None:
    """Put the checkpoints of a run that is overwritten where no resume finds them."""
    found = checkpoints(folder)
    if not found:
        return
    aside = folder / _REPLACED
    aside.mkdir(exist_ok=True)
    for path in found:
        for part in (state_of(path), path):
            if part.exists():
                there = aside / part.name
                remove(there)
                part.rename(there)


def drop_replaced(folder: Path) -> None:
    """Remove what was set aside: the new run is whole."""
    shutil.rmtree(folder / _REPLACED, ignore_errors=True)


def begin_in_own_folder() -> None:
    """Let every runner of mmengine take its folder before it writes anything there.

    In the first process of a run. XTuner makes a runner by `from_cfg` once it knows the folder; the runner's own first
    act is to write there.
    """
    from mmengine.runner import FlexibleRunner, Runner

    kinds: tuple[Any, ...] = (Runner, FlexibleRunner)
    for kind in kinds:
        kind.from_cfg = classmethod(_taking_its_folder(kind.from_cfg.__func__))


def _taking_its_folder(stock: Any) -> Any:
    def from_cfg(kind: Any, config: Any) -> Any:
        end_with_starters()
        if os.environ.get("RANK", "0") == "0":
            folder, overwrite = Path(config["work_dir"]), os.environ.get(OVERWRITE) == "1"
            require_new(folder, resume=bool(config.get("resume")), overwrite=overwrite)
            hold(folder)
            if overwrite and not config.get("resume"):
                set_aside(folder)
        return stock(kind, config)

    return from_cfg
