"""Which checkpoints of a run are complete: each has a mark beside it, written last, with what it consists of."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...atomic import atomic_json, atomic_write, bring_to_disk, remove
from ...errors import TrainingError
from ...formats import FORMAT, unreadable
from ...hashing import sha256

_NAME = re.compile(r"iter_(\d+)\.pth")
STATE = ".state"
"""Ends the name of the folder beside a checkpoint that holds its mark and the random states."""
MARK = "complete.json"
LAST = "last_checkpoint"


@dataclass(frozen=True)
class Mark:
    """What a complete checkpoint is.

    Attributes:
        step: iterations of the loop that are done.
        processes: that wrote it.
        files: sha256 and size of each file, by its path from the run's folder.
        setting: with what the run was trained (`setting.setting_of`).
    """

    step: int
    processes: int
    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        files = {name: {"sha256": digest, "bytes": size} for name, (digest, size) in self.files.items()}
        return {
            "format": FORMAT, "step": self.step, "processes": self.processes, "files": files,
            "setting": dict(self.setting),
        }  # fmt: skip

    @classmethod
    def read(cls, file: Path) -> Mark:
        """Raises ValueError when it is none."""
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, Mapping) or not isinstance(content.get("files"), Mapping):
            raise ValueError("it is no mark of a checkpoint")
        if (why := unreadable(content)) is not None:
            raise ValueError(why)
        try:
            files = {str(name): (str(item["sha256"]), int(item["bytes"])) for name, item in content["files"].items()}
            return cls(int(content["step"]), int(content["processes"]), files, dict(content.get("setting") or {}))
        except (KeyError, TypeError) as fault:
            raise ValueError(f"it lacks {fault}") from fault


def state_of(checkpoint: Path) -> Path:
    """The folder beside a checkpoint that holds its mark."""
    return checkpoint.with_name(checkpoint.stem + STATE)


def contents(folder: Path, *parts: Path) -> dict[str, tuple[str, int]]:
    """Hash and size of each file of some checkpoint's parts, by its path from the run's folder."""
    found = {}
    for part in parts:
        for file in sorted(part.rglob("*")) if part.is_dir() else [part]:
            if file.is_file() and file.name != MARK:
                found[file.relative_to(folder).as_posix()] = (sha256(file), file.stat().st_size)
    return found


def complete(partial: Path, beside: Path, final: Path, mark: Callable[[], Mark]) -> None:
    """Name a checkpoint that has been written beside its place, and mark it as complete last.

    Args:
        partial: what DeepSpeed or mmengine wrote.
        beside: what will be its folder `iter_N.state`.
        final: its name, `iter_N.pth`.
        mark: asked once both have their names.
    """
    folder, state = final.parent, state_of(final)
    for path in (final, state):  # of an earlier start that was interrupted between the two
        remove(path)
    bring_to_disk(partial, whole=True)
    bring_to_disk(beside, whole=True)
    beside.rename(state)  # first: a checkpoint beside a state without its mark is none yet
    partial.rename(final)
    bring_to_disk(folder)
    atomic_json(state / MARK, mark().as_json())
    atomic_write(folder / LAST, final.name)


def step_of(checkpoint: Path) -> int | None:
    """The iteration that a checkpoint's name says; None for another name."""
    found = _NAME.fullmatch(checkpoint.name)
    return int(found[1]) if found else None


def checkpoints(folder: Path) -> list[Path]:
    """A run's checkpoints, complete or not, the newest first."""
    found = ((step_of(path), path) for path in folder.glob("iter_*.pth"))
    return [path for _, path in sorted(((step, path) for step, path in found if step is not None), reverse=True)]


def fault_of(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be trusted; None for a complete and sound one.

    One without a mark was written by mmengine's own hook, which names a checkpoint in `last_checkpoint` once it is
    complete: older ones than the named one count as complete too, newer ones do not.
    """
    folder, mark = checkpoint.parent, state_of(checkpoint) / MARK
    if mark.is_file():
        try:
            content = Mark.read(mark)
        except (OSError, ValueError) as fault:
            return f"its mark cannot be read ({fault})"
        return next(_wrong_files(folder, content), None)
    if state_of(checkpoint).exists():
        return "it has no mark that it is complete"
    named = named_last(folder)
    if named is None or (step_of(checkpoint) or 0) > (step_of(folder / named) or -1):
        return "nothing says that it is complete"
    empty = next((file for file in _files(checkpoint) if not file.stat().st_size), None)
    return f"{empty.name} in it is empty" if empty else None


def _files(checkpoint: Path) -> Iterator[Path]:
    yield from (file for file in checkpoint.rglob("*") if file.is_file()) if checkpoint.is_dir() else [checkpoint]


def _wrong_files(folder: Path, mark: Mark) -> Iterator[str]:
    if not mark.files:
        yield "its mark names no file"
    for name, (digest, size) in mark.files.items():
        file = folder / name
        if not file.is_file():
            yield f"{name} is not there"
        elif file.stat().st_size != size:
            yield f"{name} has {file.stat().st_size} bytes of {size}"
        elif sha256(file) != digest:
            yield f"{name} has other bytes than were written"


def named_last(folder: Path) -> str | None:
    """The name of the checkpoint that `last_checkpoint` says was completed last, wherever the folder lay then."""
    try:
        text = (folder / LAST).read_bytes().decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return os.path.basename(text.rstrip("/")) or None


@dataclass(frozen=True)
class Newest:
    """The newest checkpoint of a run that can be trusted, and which newer ones were passed over, and why."""

    path: Path | None
    passed: tuple[tuple[str, str], ...] = ()


def newest(folder: Path) -> Newest:
    """Look at a run's checkpoints, the newest first, until one is complete and sound.

    What stands in `last_checkpoint` decides nothing about a checkpoint that has its mark.
    """
    passed: list[tuple[str, str]] = []
    for path in checkpoints(folder):
        fault = fault_of(path)
        if fault is None:
            return Newest(path, tuple(passed))
        passed.append((path.name, fault))
    return Newest(None, tuple(passed))


def require_newest(folder: Path) -> Newest:
    """The same. Raises TrainingError when there are some and none can be trusted: nothing starts over unasked."""
    found = newest(folder)
    if found.path is None and found.passed:
        told = "; ".join(f"{name}: {why}" for name, why in found.passed)
        raise TrainingError(
            f"{folder} has no checkpoint that can be trusted ({told}): --overwrite begins anew, --resume FILE takes "
            "one all the same"
        )
    return found
