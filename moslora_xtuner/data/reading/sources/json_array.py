"""Where the records stand in a JSON array: one pass, flat memory, reading on after what is broken.

Only the limits of each record are found here, in one process; the records are read by many. The text is decoded as
Latin-1, so that a character is a byte: JSON's own signs are ASCII and no byte of a longer UTF-8 character is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ....errors import DataError

BLOCK = 1 << 20
LONGEST = 1 << 25
"""Bytes that one record may have: more means that a quotation mark is missing somewhere."""
_SPACE = re.compile(r"[ \t\n\r]*")
_CANDIDATE = re.compile(r"\{\s*\"")
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True)
class Span:
    """The bytes of one record, or of what is broken: then `error` says what, and `at` where."""

    start: int
    end: int
    error: str = ""
    at: int = 0


def spans(path: Path) -> Iterator[Span]:
    """Records and broken places in the file's order.

    Raises:
        DataError: the file cannot be read, or its top is not a list.
    """
    with open_binary(path) as file:
        yield from _Scanner(file, path).run()


def open_binary(path: Path) -> IO[bytes]:
    """Open a source.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.open("rb")
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise DataError(f"cannot read {path} ({reason}): give the path of a LLaVA JSON") from fault


class _Scanner:
    """A window of the file as text, and a place in it."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.offset, self.at, self.ended = "", 0, 0, False
        self.comma = False  # whether one must stand before the next record
        self.told = False  # whether what is broken reaches to the file's end

    def run(self) -> Iterator[Span]:
        self._open()
        while True:
            sign = self._sign()
            if sign == "":
                if not self.told:
                    yield self._here("the file ends before its list does")
                return
            if sign == "]":
                self.at += 1
                if self._sign() == "":
                    return
                # More likely a wrong bracket than the end: what follows is read on.
                yield self._here("text after the end of the list")
                self.told = True
                continue
            if sign == ",":
                here = self._here("a record is missing beside ','")
                self.at += 1
                if not self.comma or self._sign() == "]":
                    yield here
                self.comma = False
                continue
            if self.comma:
                yield self._here("',' is missing between two records")
            yield self._record()

    def _open(self) -> None:
        self._more()
        if self.text.startswith("\xef\xbb\xbf"):
            self.at = 3
        if self.text[:2] in ("\xff\xfe", "\xfe\xff"):
            raise DataError(f"{self.path} is UTF-16: convert it to UTF-8")
        sign = self._sign()
        if sign == "":
            raise DataError(f"{self.path} holds no record: give a LLaVA JSON with at least one")
        if sign != "[":
            hint = ": name it .jsonl if it holds one record a line" if sign == "{" else ""
            raise DataError(f"{self.path} is not a JSON list, it begins with {sign!r}{hint}")
        self.at += 1

    def _record(self) -> Span:
        """Decode on from here, with more text as long as its lack may be what is wrong."""
        start, self.comma = self.at, True
        while True:
            try:
                _, end = _decode(self.text, start)
            except json.JSONDecodeError as fault:
                error, place = fault.msg, fault.pos
                certain = not error.startswith("Unterminated string") and place < len(self.text) - 16
            except RecursionError:
                error, place, certain = "nested too deeply", start, True
            except ValueError as fault:  # a number of thousands of digits
                error, place, certain = str(fault).split(";")[0], start, True
            else:
                if end == len(self.text) and self._more():
                    continue  # a number at the window's end may go on
                span = Span(self.offset + start, self.offset + end)
                self.at = end
                self._forget()
                return span
            if certain or len(self.text) - start > LONGEST or not self._more(len(self.text) - start):
                return self._skip(start, place, error)

    def _skip(self, start: int, place: int, error: str) -> Span:
        """The broken place from `start` up to the next thing that is a record, which needs no comma before it."""
        begin, fault = self.offset + start, self.offset + place
        self.at, self.comma = start + 1, False
        while True:
            found = _CANDIDATE.search(self.text, self.at)
            if found is None:
                self.at = max(self.at, len(self.text) - 64)
                self._forget()
                if not self._more():
                    self.at, self.told = len(self.text), True
                    return Span(begin, self.offset + self.at, error, fault)
                continue
            self.at = found.start()
            self._forget()
            if len(self.text) - self.at < BLOCK:
                self._more()
            try:
                value, _ = _decode(self.text, self.at)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict) and ("conversations" in value or "messages" in value):
                return Span(begin, self.offset + self.at, error, fault)
            self.at += 1

    def _here(self, error: str) -> Span:
        at = self.offset + self.at
        return Span(at, at, error, at)

    def _sign(self) -> str:
        """The next character that is no space, '' at the end of the file; it is not consumed."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            self._forget()
            if not self._more():
                return ""

    def _more(self, size: int = BLOCK) -> bool:
        block = b"" if self.ended else self.file.read(max(size, BLOCK))
        self.ended = not block
        self.text += block.decode("latin-1")
        return bool(block)

    def _forget(self) -> None:
        """Let go of what lies behind once it is a block long."""
        if self.at > BLOCK:
            self.text, self.offset, self.at = self.text[self.at :], self.offset + self.at, 0
