"""Which process works where another stands for it."""

from __future__ import annotations

from pathlib import Path


def at_work(process: int) -> int:
    """The fork that a started process stands for; itself where its start was cold."""
    words = _words(process)
    for entry in Path("/proc").glob("[0-9]*"):
        number = int(entry.name)
        if number != process and _words(number)[-len(words) + 1 :] == words[1:] and _is_fork(number):
            return number
    return process


def _words(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:  # has ended
        return []


def _is_fork(process: int) -> bool:
    try:
        parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return False
    return any(word.endswith(b"warm/server.py") for word in _words(parent))
