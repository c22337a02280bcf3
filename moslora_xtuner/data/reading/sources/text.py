"""LLaVA's JSON and JSON Lines: cut into chunks by one process, read by many."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....hashing import sha256
from ...problem_kinds import Kind
from . import json_array, json_lines
from .chunks import Broken, Chunk, Entry


class TextSource:
    """A `.json` list or a `.jsonl` file of records."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def chunks(self, size: int) -> Iterator[Chunk]:
        """The limits of `size` records at a time.

        Raises:
            DataError: the file cannot be read, or is neither a list nor lines.
        """
        found = (json_lines if self.path.suffix.lower() == ".jsonl" else json_array).spans(self.path)
        first, spans = 0, []
        for span in found:
            spans.append(span)
            if len(spans) == size:
                yield Chunk(first, tuple(spans))
                first += sum(not _point(s) for s in spans)
                spans = []
        if spans:
            yield Chunk(first, tuple(spans))

    def read(self, chunk: Chunk) -> Iterator[Entry]:
        """The chunk's records, each as JSON gives it, or as `Broken`."""
        position = chunk.first
        with self.path.open("rb") as file:
            for span in chunk.spans:
                if span.error:
                    file.seek(span.start)
                    name = _name(file.read(min(span.end - span.start, 1 << 16)))
                    yield Entry(position, span.at, Broken(Kind.BROKEN_JSON, span.error, name), lost=not _point(span))
                else:
                    file.seek(span.start)
                    yield Entry(position, span.start, *_parse(file.read(span.end - span.start), span.start))
                position += not _point(span)

    def size_hint(self) -> int:
        """Bytes, which `progress` compares the chunks' ends with."""
        return self.path.stat().st_size

    def progress(self, chunk: Chunk) -> int:
        """Bytes up to the chunk's end."""
        return chunk.spans[-1].end

    def sha256(self) -> str:
        """Of the file's bytes."""
        return sha256(self.path)


def _point(span: json_array.Span) -> bool:
    """A fault between two records: it is named, but no record is lost by it."""
    return bool(span.error) and span.start == span.end


def _parse(raw: bytes, start: int) -> tuple[Any, int | None]:
    """The record, and where in the file it is broken."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        at = start + fault.start
        return Broken(Kind.NOT_UTF_8, f"a byte that is not UTF-8 at byte {at}", _name(raw)), at
    try:
        return json.loads(text, object_pairs_hook=_no_repeats), None
    except _Repeated as fault:
        return Broken(Kind.REPEATED_KEY, str(fault), _name(raw)), None
    except json.JSONDecodeError as fault:
        at = start + len(text[: fault.pos].encode("utf-8"))
        return Broken(Kind.BROKEN_JSON, fault.msg, _name(raw)), at
    except (ValueError, RecursionError) as fault:
        return Broken(Kind.BROKEN_JSON, str(fault).split(";")[0], _name(raw)), None


_ID = re.compile(rb'"id"\s*:\s*(?:"((?:[^"\\\n]|\\.){1,200})"|(\d{1,200}))')


def _name(raw: bytes) -> str:
    """The first id in what cannot be read, as it is written."""
    found = _ID.search(raw)
    return (found[1] or found[2]).decode("utf-8", "replace") if found else "?"


class _Repeated(Exception):
    pass


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Repeated(f"the key {twice!r} stands twice in one object")
    return made
