"""A folder has one writer at a time: a lock on a file in it, which the system takes back however a process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from .errors import OutputError


def lock(folder: Path, handle: IO[str], writer: str, instead: str) -> None:
    """Take the lock for as long as the file is open.

    Args:
        folder: for the message.
        handle: the open file; it holds the number of the process that has the lock.
        writer: what writes there, for the message.
        instead: what to name, for the message.

    Raises:
        OutputError: another process has it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        raise OutputError(
            f"{folder} is written by another {writer} (process {owner}): let it end, or name {instead}"
        ) from fault


def take(folder: Path, handle: IO[str], writer: str, instead: str) -> None:
    """The same, and leave this process's number there."""
    lock(folder, handle, writer, instead)
    handle.seek(0)
    handle.truncate()
    handle.write(f"{os.getpid()}\n")
    handle.flush()
