"""An append-only file of JSON lines: what is in it is on the disk, whatever kills the process next."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from .atomic import explain, json_line, parse_json
from .errors import OutputError

Row = TypeVar("Row")


class JsonLog:
    """Records in the order in which they were added. May be used by several threads, and several may stand on a file.

    Args:
        path: the file; it and its folder are made with the first record.
        what: one record, for messages: "answer", "verdict".
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        self._handle: IO[bytes] | None = None
        self._lock = threading.Lock()

    def read(self, row: Callable[[Any], Row]) -> list[Row]:
        """All records, each through `row`; a torn last line, the trace of a kill, is cut off.

        Raises:
            OutputError: the file cannot be read, or `row` raises ValueError, KeyError or TypeError for a whole line,
                or it is nested deeper than JSON can be read.
        """
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as fault:
            raise OutputError(f"{self.path} cannot be read ({fault}): mend its rights or move it away") from fault
        whole = content[: content.rfind(b"\n") + 1]
        found = []
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                found.append(row(parse_json(line.decode("utf-8"))))
            except (ValueError, KeyError, TypeError, AttributeError) as fault:
                said = f"{type(fault).__name__}: {fault}" if isinstance(fault, KeyError) else fault
                raise OutputError(
                    f"{self.path}, line {number} is no {self.what} of this program ({said}). "
                    "Move the file away to ask for all of them again."
                ) from fault
        if len(whole) < len(content):
            try:
                os.truncate(self.path, len(whole))
            except OSError as fault:
                raise explain(self.path, fault) from fault
        return found

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records, all or none, and bring them to the disk before returning.

        Raises:
            OutputError: they cannot be written. What was there before is kept.
        """
        lines = b"".join(map(json_line, records))
        with self._lock:
            try:
                if self._handle is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._handle = self.path.open("ab", buffering=0)
                _append(self._handle, lines)
            except OSError as fault:
                why = explain(self.path, fault)
                raise type(why)(
                    f"{why}; the {self.what}s in the file are kept, and the same command goes on with them"
                ) from fault

    def close(self) -> None:
        """Close the file; a further record opens it again."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A field that must be a text: null read as "None" would be an answer. Raises KeyError, ValueError."""
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.50}, no text")
    return value


def _append(handle: IO[bytes], lines: bytes) -> None:
    end = os.fstat(handle.fileno()).st_size  # not tell(): another log of this process may have written there too
    try:
        if handle.write(lines) < len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle.fileno())
    except OSError:
        with suppress(OSError):  # half a line would spoil the next one
            handle.truncate(end)
        raise
