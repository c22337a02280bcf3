"""A problem of one record, and all of them counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..problem_kinds import FAULTS, REMARKS, Kind

Complain = Callable[[Kind, str], None]
LONGEST = 200
"""Characters of what was found, and of an id, that are kept: a record may hold a picture as megabytes of text."""


def shown(value: Any) -> str:
    """A value for a line of text: whole, or its beginning."""
    text = repr(value if not isinstance(value, str | list | tuple) else value[:LONGEST])
    return text if len(text) <= 60 else f"{text[:57]}..."


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


EXAMPLES = 20
"""Problems of each kind that are kept in memory, for tables."""


@dataclass(frozen=True)
class Problem:
    """Something about one record.

    Attributes:
        record: the record's id, `?` without one.
        position: the record's place in its source, from 0.
        detail: what was found.
        byte: where the record (or the error in it) stands in the file; None where the source is no text file.
        source: name of the file or folder, where there are several.
    """

    kind: Kind
    record: str
    position: int
    detail: str
    byte: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        Kind(self.kind)  # ValueError for one that no tally would show
        object.__setattr__(self, "detail", _cut(self.detail))
        object.__setattr__(self, "record", _cut(self.record))

    @property
    def fault(self) -> bool:
        """Whether the record cannot be trained on as it is."""
        return self.kind.fault

    def __str__(self) -> str:
        at = "" if self.byte is None else f", byte {self.byte}"
        of = f"{self.source} " if self.source else ""
        return f"{of}record {self.position} (id {self.record}{at}): {self.detail}"

    def as_json(self) -> dict[str, Any]:
        """For a machine: one line of problems.jsonl."""
        return {**asdict(self), "kind": self.kind.value}


@dataclass
class Tally:
    """Problems counted by kind, with the first few of each; flat in memory whatever the data's size."""

    counts: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, list[Problem]] = field(default_factory=dict)

    def add(self, problems: Iterable[Problem]) -> None:
        """Count, and keep the first of each kind."""
        for problem in problems:
            self.counts[problem.kind] += 1
            kept = self.examples.setdefault(problem.kind, [])
            if len(kept) < EXAMPLES:
                kept.append(problem)

    def kinds(self, fault: bool) -> list[tuple[Kind, int]]:
        """The faults, or the remarks, most frequent first."""
        known = FAULTS if fault else REMARKS
        return [(kind, count) for kind, count in self.counts.most_common() if kind in known]
