"""Tries of faults, as the table of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .kinds import KINDS


def table(tries: Sequence[Mapping[str, Any]]) -> str:
    """One line a fault: tries, survived, iterations done again (of 36), seconds of a try with its resume."""
    lines = [
        "| fault | tries | survived | iterations done again: median, most | seconds of a try |",
        "|---|---|---|---|---|",
    ]
    for name, (words, _) in KINDS.items():
        mine = [row for row in tries if row["fault"] == name]
        if not mine:
            continue
        lost = [row["lost"] for row in mine if row["survived"]]
        again = f"{median(lost):g}, {max(lost)}" if lost else "-"
        survived = sum(row["survived"] for row in mine)
        lines.append(f"| {words} | {len(mine)} | {survived} | {again} | {median(row['seconds'] for row in mine):.0f} |")
    return "\n".join(lines)
