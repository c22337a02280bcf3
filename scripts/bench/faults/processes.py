"""The processes of a training, found in the process table."""

from __future__ import annotations

from pathlib import Path


def with_folder(folder: Path) -> dict[int, tuple[bytes, bytes]]:
    """Command line and environment of every process whose command line names a run's folder."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in command:
            found[int(entry.name)] = command, environment
    return found


def ranks(folder: Path) -> list[int]:
    """Those that train, in the order of their ranks."""
    found = {}
    for process, (_, environment) in with_folder(folder).items():
        parts = dict(part.partition(b"=")[::2] for part in environment.split(b"\0"))
        if b"RANK" in parts and b"TORCHELASTIC_RUN_ID" in parts:
            found[process] = int(parts[b"RANK"])
    return sorted(found, key=lambda process: (found[process], process))


def named(folder: Path, name: bytes) -> list[int]:
    """Those whose command line has this name in it, as `torchrun`."""
    return [process for process, (command, _) in with_folder(folder).items() if name in command]
