"""No process of a training outlives those that started it."""

from __future__ import annotations

import os
import select
import sys
import threading
from pathlib import Path

from ..errors import TrainingError

_PROGRAMS = {"torchrun", "xtuner", "moslora", "deepspeed"}
_MODULES = {"torch.distributed.run", "torch.distributed.launch", "moslora_xtuner"}
"""What starts a training; anything above those is a shell, a scheduler, or a program of somebody's own."""


def starters(process: int | None = None) -> list[int]:
    """The processes above this one that belong to the launch, the nearest first."""
    found, at = [], os.getppid() if process is None else parent_of(process)
    while at > 1:
        try:
            words = Path(f"/proc/{at}/cmdline").read_bytes().decode(errors="replace").split("\0")[:4]
        except OSError:
            break
        if not _starts_trainings(words):
            break
        found.append(at)
        at = parent_of(at)
    return found


def _starts_trainings(words: list[str]) -> bool:
    """Whether a command line is one of those programs, run by itself or by Python; not one that only names it."""
    names = [os.path.basename(word) for word in words]
    if not names[0].startswith("python"):
        return names[0] in _PROGRAMS
    while len(words) > 1 and words[1].startswith("-") and words[1] != "-m":  # Python's own options, as -u
        words, names = words[:1] + words[2:], names[:1] + names[2:]
    if words[1:2] == ["-m"]:
        return words[2:3] != [] and words[2] in _MODULES
    return names[1:2] != [] and names[1] in _PROGRAMS


def parent_of(process: int) -> int:
    """The process that started another one; 0 when that has gone."""
    try:  # the name, in brackets, may hold anything
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def end_with_starters() -> None:
    """End this process within a second when one of those that started it has gone: nobody waits for it any more."""
    opened = []
    for process in starters():
        try:
            opened.append(os.pidfd_open(process))
        except (OSError, AttributeError):  # gone already, or a kernel without
            continue
    if opened:
        threading.Thread(target=_watch, args=(opened,), daemon=True, name="starters").start()


def _watch(opened: list[int]) -> None:
    poll = select.poll()
    for descriptor in opened:
        poll.register(descriptor, select.POLLIN)
    poll.poll()
    leave("moslora: what started this training is gone: it ends\n")


def leave(words: str) -> None:
    """Say it, if anybody still listens, and end this process whatever else it is doing."""
    try:
        sys.stderr.write(words)
        sys.stderr.flush()
    except (OSError, ValueError):  # who started it has taken the pipe along
        pass
    finally:
        os._exit(TrainingError.exit_code)
