"""Rows: their number of cells, their index, their question, and the names they are counted under."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..registry import OFFSET, Benchmark
from ..tsv import NOTHING, Tsv
from ..values import value
from .finding import Finding, Weight

FORMULA = "begins with =: VLMEvalKit's spreadsheets take it for a formula"
GROUPS = ("category", "l2-category")
LARGEST = 2**53
"""The largest whole number that a spreadsheet, in which VLMEvalKit keeps its results, holds exactly."""


def names(table: Tsv) -> list[str]:
    """How each row is called: by its index, or by its line where it has none."""
    return [
        f"index {index if index.isprintable() else repr(index)}" if index.strip() else f"line {line}"
        for index, line in zip(table.column("index"), table.lines, strict=True)
    ]


def form(table: Tsv, called: Sequence[str]) -> Iterator[Finding]:
    """Rows that end too early or too late, and quotes that swallow lines."""
    width = len(table.columns)
    for row, (column, breaks) in table.swallowed.items():
        lost = f"{breaks} further lines of the file" if breaks != 1 else "the next line of the file"
        what = f"a quote is opened here and not closed: it swallows {lost if breaks else 'the rest of the line'}"
        yield Finding(row, called[row], column, what)
    for row, count in table.ragged.items():
        if row in table.swallowed:
            continue
        if count > width:
            yield Finding(row, called[row], "", f"{count} cells, but the header has {width} columns")
        elif count > 1 or width == 1:
            missing = ", ".join(table.columns[count:])
            yield Finding(row, called[row], table.columns[count], f"the row ends before {missing}")
        else:
            yield Finding(row, called[row], "", "the row holds one cell alone")


def indices(benchmark: Benchmark, table: Tsv, called: Sequence[str]) -> Iterator[Finding]:
    """Missing and doubled indices, and those that VLMEvalKit or a spreadsheet turns into others."""
    first: dict[str, int] = {}
    for row, index in enumerate(table.column("index")):
        if not index.strip():
            yield Finding(row, called[row], "index", "no index")
            continue
        if (why := odd(index, benchmark.circular)) is not None:
            yield Finding(row, called[row], "index", why)
        same = _value(index)
        if same in first:
            earlier = table.column("index")[first[same]]
            as_what = "" if earlier == index else f" (as {earlier})"
            yield Finding(row, called[row], "index", f"this index stands there twice{as_what}")
        else:
            first[same] = row


def odd(index: str, circular: bool) -> str | None:
    """Why an index would not be found again in VLMEvalKit's results, or None."""
    if _is_plain(index):
        if abs(int(index)) > LARGEST:
            return f"more than 2^53, which a spreadsheet does not hold exactly: {index}"
        return "a circular question's index is not below 0" if circular and int(index) < 0 else None
    if circular:
        return (
            f"{index!r} is no whole number, as circular evaluation needs (rotation k of question i: i + k x {OFFSET:,})"
        )
    if index.startswith("="):
        return FORMULA
    if index in NOTHING:
        return f"{index!r} is a missing value to pandas"
    if index != index.strip():
        return f"{index!r} has blanks around it"
    if _number(index) is not None or isinstance(value(index), bool):  # True is the number 1
        return f"{index!r} is read as another number: write it plainly"
    return None


def _is_plain(index: str) -> bool:
    digits = index.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and (digits == "0" or not digits.startswith("0")) and index != "-0"


def _number(index: str) -> float | None:
    """The number that pandas, Python or VLMEvalKit's `eval` makes of a text."""
    found = value(index)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return found
    try:
        return float(index)
    except ValueError:
        return None


def _value(index: str) -> str:
    """Equal for indices that are the same number."""
    if _is_plain(index) or (number := _number(index)) is None or number != number:
        return index.strip()
    return str(int(number)) if abs(number) < LARGEST and number == int(number) else str(number)


def questions(table: Tsv, called: Sequence[str]) -> Iterator[Finding]:
    """Questions that are empty, and those that VLMEvalKit itself would take for nothing."""
    for row, question in enumerate(table.column("question")):
        if not question.strip():
            yield Finding(row, called[row], "question", "no question")
        elif question in NOTHING:
            what = f"asked as the text {question!r}; VLMEvalKit itself takes it for a missing value and asks 'nan'"
            yield Finding(row, called[row], "question", what, Weight.SAID)


def groups(benchmark: Benchmark, table: Tsv, called: Sequence[str]) -> Iterator[Finding]:
    """Cells of `category` and the like that are missing where others are not: VLMEvalKit fails to sort the names."""
    columns = {"MathVista": ("task", "skills"), "MMVet": ("category",)}.get(benchmark.vlmeval_class)
    if columns is None:
        columns = GROUPS if benchmark.kind == "mcq" else ("category",)
    needs = benchmark.aggregate == "subtask_sum" or benchmark.vlmeval_class in ("MathVista", "MMVet")
    whole = with_groups(benchmark, table)
    for column in columns:
        if column not in table.cells:
            continue
        for row, cell in enumerate(table.cells[column]):
            if cell.startswith("="):
                yield Finding(row, called[row], column, FORMULA)
        empty = [row for row, cell in enumerate(table.cells[column]) if cell.strip() in NOTHING]
        if len(empty) == len(table) and not needs:
            continue
        for row in empty:
            cell = table.cells[column][row].strip()
            what, weight = f"no {column}", Weight.FAULT
            if cell:
                what = f"{cell!r} is a missing value to VLMEvalKit"
            elif whole.cells[column][row]:
                what, weight = f"no {column}: taken from the question that this is a rotation of", Weight.SAID
            yield Finding(row, called[row], column, what, weight)


def with_groups(benchmark: Benchmark, table: Tsv) -> Tsv:
    """The table with the names of rotations filled in from the question itself, which alone VLMEvalKit counts by."""
    columns = [name for name in GROUPS if name in table.cells] if benchmark.circular else []
    if not columns:
        return table
    place = {index: row for row, index in enumerate(table.column("index"))}
    cells = dict(table.cells)
    for column in columns:
        held = list(cells[column])
        for row, index in enumerate(table.column("index")):
            if not held[row].strip() and odd(index, circular=True) is None:
                main = place.get(str(int(index) % OFFSET))
                held[row] = "" if main is None or held[main].strip() in NOTHING else held[main]
        cells[column] = held
    return replace(table, cells=cells)


def splits(benchmark: Benchmark, table: Tsv, called: Sequence[str]) -> Iterator[Finding]:
    """Rows of another split than the table's: VLMEvalKit gives each split a score of its own."""
    if benchmark.kind != "mcq" or "split" not in table.cells:
        return
    cells = [cell.strip() for cell in table.cells["split"]]
    found = {cell for cell in cells if cell not in NOTHING}
    counts = {name: cells.count(name) for name in found}
    meant = benchmark.split if benchmark.split in found else max(counts, key=lambda name: counts[name], default="")
    for row, cell in enumerate(cells):
        if cell in NOTHING:
            yield Finding(row, called[row], "split", "no split: VLMEvalKit counts the row under none")
        elif cell != meant:
            yield Finding(row, called[row], "split", f"of the split {cell!r}, the others of {meant!r}")
