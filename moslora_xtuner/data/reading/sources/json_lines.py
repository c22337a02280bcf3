"""Where the records stand in a JSON Lines file: one a line, empty lines between them allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ....errors import DataError
from .json_array import LONGEST, Span, open_binary

_BOM = b"\xef\xbb\xbf"


def spans(path: Path) -> Iterator[Span]:
    """One span a line that is not empty; what its text is worth shows when it is read.

    Raises:
        DataError: the file cannot be read, or is UTF-16.
    """
    with open_binary(path) as file:
        start = 0
        # Only "\n" ends a line: a string may hold U+2028.
        while line := file.readline(LONGEST):
            end = start + len(line)
            if start == 0 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise DataError(f"{path} is UTF-16: convert it to UTF-8")
            begin = len(_BOM) if start == 0 and line.startswith(_BOM) else start
            if len(line) == LONGEST and not line.endswith(b"\n"):
                while (rest := file.readline(LONGEST)) and not rest.endswith(b"\n"):
                    end += len(rest)
                end += len(rest)
                yield Span(start, end, f"a line of {end - start} bytes", start)
            elif line[begin - start :].strip():
                yield Span(begin, end)
            start = end
