"""A TSV as the texts that stand in it: every cell, the line of every row, and what of its form is broken."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import DataError

NOTHING = frozenset(
    {
        "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
        "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
    }
)  # fmt: skip
"""What pandas takes for a missing value, and so does VLMEvalKit."""


@dataclass(frozen=True)
class Tsv:
    """A table of texts.

    Attributes:
        path: where it was read.
        columns: the header's words.
        cells: by column, a text for each row; "" where a row ends before.
        lines: the line of the file on which each row begins.
        ragged: rows of another number of cells than the header, and how many they have.
        swallowed: rows of which a cell holds whole lines of the table, because a quote was not closed, with the
            cell's column and how many line breaks it holds.
    """

    path: Path
    columns: tuple[str, ...]
    cells: dict[str, list[str]]
    lines: tuple[int, ...]
    ragged: dict[int, int] = field(default_factory=dict)
    swallowed: dict[int, tuple[str, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> list[str]:
        """A column's cells; empty texts where there is no such column."""
        return self.cells.get(name) or [""] * len(self)

    def rows(self, *without: str) -> list[dict[str, str]]:
        """The rows as mappings, without some columns."""
        names = [name for name in self.cells if name not in without]
        return [
            dict(zip(names, values, strict=True)) for values in zip(*(self.cells[name] for name in names), strict=True)
        ]

    def only(self, keep: list[int]) -> Tsv:
        """The same with these rows alone."""
        cells = {name: [values[row] for row in keep] for name, values in self.cells.items()}
        place = {row: number for number, row in enumerate(keep)}
        return Tsv(
            self.path,
            self.columns,
            cells,
            tuple(self.lines[row] for row in keep),
            {place[row]: count for row, count in self.ragged.items() if row in place},
            {place[row]: what for row, what in self.swallowed.items() if row in place},
        )


def read(path: Path) -> Tsv:
    """Read a TSV whole, quoted as pandas and VLMEvalKit read it: texts only, nothing is taken for a number or nothing.

    Raises DataError where it cannot be read, is no UTF-8, or has no header, or two columns of one name.
    """
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t")
            header = next(reader, [])
            _check_header(path, header)
            return _table(path, header, reader)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a TSV: {error}.") from error


def has_answers(path: Path) -> bool:
    """Whether a table has the column `answer` with something in it; read as far as the first. Raises DataError."""
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t")
            header = next(reader, [])
            if "answer" not in header:
                return False
            place = header.index("answer")
            return any(len(row) > place and row[place].strip() for row in reader)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a TSV: {error}.") from error


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path} is empty: it holds no question and no header.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has the column {twice[0]!r} twice.")


def _table(path: Path, header: list[str], reader: Any) -> Tsv:
    width = len(header)
    rows: list[list[str]] = []
    lines: list[int] = []
    ragged: dict[int, int] = {}
    swallowed: dict[int, tuple[str, int]] = {}
    before = reader.line_num
    for row in reader:
        begins, before = before + 1, reader.line_num
        if not row:
            continue
        if len(row) != width:
            ragged[len(rows)] = len(row)
        if before > begins or len(row) < width:
            for place, cell in enumerate(row):
                if _holds_rows(cell, header, short=len(row) < width):
                    swallowed[len(rows)] = (header[min(place, width - 1)], cell.count("\n"))
        rows.append([*row, *[""] * (width - len(row))][:width])
        lines.append(begins)
    cells = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in header}
    return Tsv(path, tuple(header), cells, tuple(lines), ragged, swallowed)


def _holds_rows(cell: str, header: list[str], *, short: bool) -> bool:
    """Whether a cell holds what was meant as rows of its own.

    A break and tabs may well stand in a question (code is indented). In a row that was swallowed the tabs follow a
    text: that row's own first cells; a quote that the last line of the file opens takes the rest of that line.
    """
    if "\t" not in cell:
        return False
    first, *further = cell.split("\n")
    if short and "\t" in first.strip("\t"):
        return True
    place = header.index("index") if "index" in header else 0
    for line in further:
        parts = line.split("\t")
        begins_a_row = len(parts) > max(place, 1) and parts[place].strip()
        if begins_a_row and (len(parts) >= len(header) - 1 or parts[place].strip().isdecimal()):
            return True
    return False
