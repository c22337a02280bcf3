"""How a file comes to stand whole or not at all, how JSON is read, and what is said where it cannot be written."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import DiskFull, OutputError

PARTIAL = ".partial-"
FULL = (errno.ENOSPC, errno.EDQUOT)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file so that it holds the old content or all of the new, whenever the power goes.

    Text is written as UTF-8. The parent folder must exist. Raises OutputError.
    """
    path = Path(path)
    beside = unfinished(path)
    raw = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with beside.open("wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
        bring_to_disk(path.parent)
    except OSError as fault:
        raise explain(path, fault) from fault
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def atomic_json(path: Path, content: Any, indent: int = 1) -> Path:
    """Write JSON as `atomic_write` does; returns the path. Raises OutputError."""
    atomic_write(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")
    return Path(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises OSError, and ValueError also where it is nested too deep to be read."""
    return parse_json(Path(path).read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """JSON as a value. Raises ValueError also where it is nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def atomic_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines as `atomic_write` does, their folder made where it is missing. Raises OutputError."""
    make_folder(Path(path).parent)
    atomic_write(path, b"".join(map(json_line, records)))


def json_line(record: Mapping[str, Any]) -> bytes:
    """A record as one line of UTF-8; one with half a surrogate pair, which UTF-8 cannot hold, in ASCII."""
    try:
        return f"{json.dumps(record, ensure_ascii=False)}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(record)}\n".encode()


def make_folder(path: Path) -> Path:
    """Make a folder and those above it; returns its path. Raises OutputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise explain(path, fault) from fault
    return path


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[str]]:
    """Yield a text file to write; it takes the name `path` when the block ends without an exception.

    For what is too long to be made in memory; else as `atomic_write`. Raises OutputError.
    """
    path = Path(path)
    beside = unfinished(path)
    try:
        stream = beside.open("w", encoding="utf-8", newline="\n")
    except OSError as fault:
        raise explain(path, fault) from fault
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
        bring_to_disk(path.parent)
    except OSError as fault:
        if fault.errno in FULL:  # other faults may be about what the block reads
            raise explain(path, fault) from fault
        raise
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """A name in the same folder that no other write has."""
    return path.parent / f".{path.name}{PARTIAL}{uuid.uuid4().hex[:8]}"


def bring_to_disk(path: Path, *, whole: bool = False) -> None:
    """Flush a file, or the names in a folder: a rename is not there before. `whole`: all that is in it first."""
    if whole and path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            bring_to_disk(inner, whole=True)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing there is no fault."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def as_os_error(fault: Exception) -> OSError | None:
    """What the system said inside another library's exception, in Rust's words: "... (os error 28)"."""
    found = re.search(r"\(os error (\d+)\)", str(fault))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def explain(path: Path, fault: OSError) -> OutputError:
    """Why a file cannot be written, and what to do."""
    if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"no permission to write {path}: choose another output folder or mend its rights")
    if fault.errno in FULL:
        return DiskFull(f"no space left for {path}: make room or choose another disk, then start again")
    if fault.errno in (errno.ENOTDIR, errno.EEXIST):
        return OutputError(f"{path} cannot be made, a part of it is a file: choose another output folder")
    return OutputError(f"cannot write {path} ({fault.strerror or fault}): choose another output folder")
