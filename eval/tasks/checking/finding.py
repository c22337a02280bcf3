"""What was found in a table: where, and whether it stops the evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

NAMED = 8
"""So many indices of one kind of finding are told where lines must be few."""


class Weight(Enum):
    """What a finding means for the score."""

    FAULT = "fault"
    """The question cannot be asked or scored as it is meant: nothing is asked."""
    NEVER_RIGHT = "never right"
    """No answer to the question can be counted as right: it costs points, in VLMEvalKit too."""
    SAID = "note"
    """Asked and scored; what a reader should know."""


@dataclass(frozen=True)
class Finding:
    """One thing in one cell, row or table.

    Attributes:
        row: its place in the table, None where it is of the table as a whole.
        index: as the table has it, or "line N" where it has none; "" for the table.
        column: "" where it is of a row as a whole.
        what: in words.
    """

    row: int | None
    index: str
    column: str
    what: str
    weight: Weight = Weight.FAULT

    def __str__(self) -> str:
        where = ", ".join(filter(None, (shortened(self.index, 60), shortened(self.column, 60))))
        what = shortened(self.what)
        return f"{where}: {what}" if where else what


def shortened(text: str, longest: int = 300) -> str:
    """A text of one line, cut where it is long: what stands in a cell may be anything."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def grouped(findings: Iterable[Finding]) -> list[str]:
    """One line for each kind of finding, with its columns and the first indices of it."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.what, []).append(finding)
    lines = []
    for what, found in groups.items():
        indices = list(dict.fromkeys(item.index for item in found if item.index))
        columns = sorted({item.column for item in found if item.column})
        more = f" and {len(indices) - NAMED} more" if len(indices) > NAMED else ""
        short = [name.removeprefix("index ") if place else name for place, name in enumerate(indices[:NAMED])]
        named = ", ".join(shortened(name, 60) for name in short)
        where = ", ".join(filter(None, [named + more, shortened("/".join(columns), 60)]))
        lines.append(f"{where}: {shortened(what)}" if where else shortened(what))
    return lines
