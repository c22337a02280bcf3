"""Cells of tables that people open in a spreadsheet: what a model, a benchmark or a run's name says is no formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

XLSX: dict[str, Any] = {"options": {"strings_to_formulas": False, "strings_to_urls": False}}
"""For xlsxwriter: a text is a text, also one that looks like a formula or a web address."""
_FORMULA = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@\uff0b\uff0d\uff1d\uff20])")
"""What a spreadsheet takes for one by its beginning, behind any number of the marks that say it is none."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?%?|-", re.I | re.A)
"""With the dash that stands where there is none."""


def as_text(cell: str) -> str:
    """A cell of a CSV: with `'` in front where a spreadsheet would take the text for a formula; numbers stay."""
    return f"'{cell}" if _is_formula(cell) else cell


def original(cell: str) -> str:
    """What `as_text` was given."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def write_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated, quoted where needed, a row a line; half of a character stands as U+FFFD."""
    return "".join(map(_line, rows))


def read_csv(text: str) -> list[list[str]]:
    """The cells that `write_csv` was given, as text."""
    return [[original(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline=""))]


def _is_formula(cell: str) -> bool:
    return bool(_FORMULA.match(cell)) and not _NUMBER.fullmatch(cell)


def _line(row: Sequence[Any]) -> str:
    cells = [as_text(cell) if isinstance(cell, str) else cell for cell in row]
    target = io.StringIO()
    # With both signs in the row's end, a cell that holds one of them is quoted; Python 3.12 leaves "\r" bare else.
    csv.writer(target, lineterminator="\r\n").writerow(cells)
    line = target.getvalue().removesuffix("\r\n") + "\n"
    return line.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
