"""What a source is cut into, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...problem_kinds import Kind
from .json_array import Span


@dataclass(frozen=True)
class Chunk:
    """Neighbouring records of one source.

    Attributes:
        first: position of the first.
        spans: where they stand in a text file, or one span of row numbers in a table.
    """

    first: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Broken:
    """What stands where a record should: its kind, details, and the id if it can be read."""

    kind: Kind
    detail: str
    record: str = "?"


@dataclass(frozen=True)
class Entry:
    """One record as it was read.

    Attributes:
        position: its place in the source, from 0.
        byte: where it begins in a text file, None in a table.
        raw: what JSON gives, or `Broken`.
        error_at: the byte where it is broken, where that is known.
        lost: whether a record stood here; False for a missing comma.
    """

    position: int
    byte: int | None
    raw: Any
    error_at: int | None = None
    lost: bool = True
