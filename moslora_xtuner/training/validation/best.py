"""The adapter of the lowest validation loss so far: kept beside the run and in its checkpoints until the run ends."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...atomic import remove
from ...errors import TrainingError
from ...formats import FORMAT, unreadable
from ...hashing import sha256
from ...output import MARKER, atomic_folder
from ..parts import write_parts
from .losses import Loss

BEST = ".best"
"""In a run's folder."""
IN_CHECKPOINT = "best"
"""In a checkpoint's `iter_N.state`."""
FACTS = "best.json"
_OWN = (MARKER, FACTS)


def write(run: Path, model: Any, loss: Loss) -> None:
    """Keep what is trained of the model, as it is now, in place of what was the best before. Raises OutputError."""
    with atomic_folder(run / BEST, kind="best adapter") as folder:
        write_parts(model, folder)
        files = {name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
                 for name in _names(folder)}  # fmt: skip
        facts = {"format": FORMAT, "step": loss.step, "loss": loss.loss, "files": files}
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def put_into_checkpoint(run: Path, state: Path) -> None:
    """Give a checkpoint the best so far; its files are the same ones, where the disk can have one twice."""
    if (run / BEST).is_dir():
        shutil.copytree(run / BEST, state / IN_CHECKPOINT, copy_function=_link_or_copy)


def take_from_checkpoint(state: Path, run: Path, loss: Loss) -> None:
    """Go on with the best of a checkpoint, whatever the run has found behind it.

    Raises:
        TrainingError: the checkpoint has none, or another one.
        OutputError: it cannot be written.
    """
    source = state / IN_CHECKPOINT
    found = _facts(source, loss)
    with atomic_folder(run / BEST, kind="best adapter") as folder:
        _copy(source, folder, found, loss)
        shutil.copyfile(source / FACTS, folder / FACTS)


def put_into(run: Path, folder: Path, loss: Loss) -> None:
    """Copy the best into the folder that becomes `adapters/`, byte for byte as it was written.

    Raises:
        TrainingError: it is gone, damaged, or of another step than `loss`.
    """
    _copy(run / BEST, folder, _facts(run / BEST, loss), loss)


def forget(run: Path) -> None:
    """A run that begins, or has ended, has none."""
    remove(run / BEST)


def _names(folder: Path) -> list[str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(name for file in files if (name := file.relative_to(folder).as_posix()) not in _OWN)


def _facts(folder: Path, loss: Loss) -> Mapping[str, Any]:
    try:
        found: Any = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        why = unreadable(found) or ("" if found["files"] else "it names no file")
        if not why and found["step"] != loss.step:
            why = f"it is of iteration {found['step']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise _lost(folder, loss, f"{FACTS} cannot be read ({fault})") from fault
    if why:
        raise _lost(folder, loss, why)
    files: Mapping[str, Any] = found["files"]
    return files


def _copy(source: Path, folder: Path, files: Mapping[str, Any], loss: Loss) -> None:
    """Copy the named files, and look at the copies."""
    for name, written in files.items():
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            content = (source / name).open("rb")
        except OSError as fault:
            raise _lost(source, loss, f"{name} cannot be read ({fault.strerror})") from fault
        with content, (folder / name).open("wb") as copy:
            shutil.copyfileobj(content, copy)
        if sha256(folder / name) != written["sha256"]:
            raise _lost(source, loss, f"{name} has other bytes than were written")


def _lost(folder: Path, loss: Loss, why: str) -> TrainingError:
    return TrainingError(
        f"the adapter of the lowest validation loss (iteration {loss.step}, {loss.loss:.6g}) cannot be had from "
        f"{folder}: {why}; --resume auto takes it from the newest checkpoint, and with --cfg-options "
        "default_hooks.validation.keep=last the last one is kept"
    )


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
