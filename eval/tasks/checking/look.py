"""The look at one table: all findings at once, and what is left when rows with faults are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moslora_xtuner.errors import DataError

from ..pictures import locate
from ..registry import Benchmark
from ..tsv import Tsv
from . import answers, choices, columns, images, rows, units
from .finding import Finding, Weight, grouped


@dataclass(frozen=True)
class Look:
    """What was found in a benchmark's table."""

    benchmark: Benchmark
    table: Tsv
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> list[Finding]:
        """Those that stop the evaluation."""
        return [finding for finding in self.findings if finding.weight is Weight.FAULT]

    @property
    def never_right(self) -> set[int]:
        """The rows to which no answer can be counted as right."""
        return {item.row for item in self.findings if item.weight is Weight.NEVER_RIGHT and item.row is not None}

    def bad_rows(self) -> set[int]:
        """The rows with a fault of their own."""
        return {finding.row for finding in self.faults if finding.row is not None}

    def skippable(self, budget: int) -> bool:
        """Whether leaving out so many bad rows leaves no fault."""
        return len(self.bad_rows()) <= budget and all(finding.row is not None for finding in self.faults)

    def lines(self) -> list[str]:
        """Every finding on a line of its own: benchmark, index, column, what."""
        return [f"{self.benchmark.dataset}: {finding.weight.value}: {finding}" for finding in self.findings]


@dataclass(frozen=True)
class Part:
    """The rows that are asked, and those that are not.

    Attributes:
        table: without them.
        left_out: the indices of all rows that were, with those that are scored together with a bad one.
        because: what was wrong, a line for each kind.
    """

    table: Tsv
    left_out: tuple[str, ...] = ()
    because: tuple[str, ...] = ()


def look(
    benchmark: Benchmark, table: Tsv, data_root: Path | None, *, registered: bool = False, kit_fixes: bool = False
) -> Look:
    """Everything that can be known of a table without asking a question.

    Args:
        benchmark: whose table it is.
        table: read whole.
        data_root: where pictures that are files lie (VLMEvalKit's `images/NAME`).
        registered: whether it is a release that VLMEvalKit knows: asked and scored as everybody does, its faults said.
        kit_fixes: whether VLMEvalKit's known defects are corrected.
    """
    called = rows.names(table)
    found = list(columns.check(benchmark, table))
    lacking = any(not finding.column for finding in found)
    table = columns.meant(benchmark, table)
    cells: list[Finding] = []
    if not lacking:
        cells += _cells(benchmark, table, called, kit_fixes)
    elif "index" in table.columns:
        cells += rows.indices(benchmark, table, called)
    if {"image", "image_path"} & set(table.columns):
        cells += images.check(table, called, lambda name: locate(name, data_root, benchmark.dataset))
    order = ordered([*found, *rows.form(table, called)], cells, table)
    if registered:
        order = [replace(item, weight=Weight.SAID) if item.weight is Weight.FAULT else item for item in order]
    return Look(benchmark, table, tuple(order))


def ordered(form: Iterable[Finding], cells: Iterable[Finding], table: Tsv) -> list[Finding]:
    """Findings by row. One whose cells are not where they belong has that said alone, which explains all else."""
    found = [*form, *(item for item in cells if item.row not in table.ragged.keys() | table.swallowed.keys())]
    if not len(table):
        found.append(Finding(None, "", "", "holds no question"))
    return sorted(found, key=lambda item: -1 if item.row is None else item.row)


def _cells(benchmark: Benchmark, table: Tsv, called: Sequence[str], kit_fixes: bool) -> Iterable[Finding]:
    """The findings in cells other than the pictures'."""
    yield from rows.indices(benchmark, table, called)
    yield from rows.questions(table, called)
    yield from rows.groups(benchmark, table, called)
    yield from rows.splits(benchmark, table, called)
    yield from units.check(benchmark, table, called)
    yield from answers.check(benchmark, table, called, kit_fixes)
    if benchmark.kind == "mcq":
        yield from choices.check(benchmark, table, called, kit_fixes)


def part(found: Look, budget: int) -> Part:
    """The table without its bad rows and what is scored together with them, where the budget allows for it.

    Raises DataError with every fault where there are more bad rows than that, or faults of the table as a whole.
    """
    if not found.faults:
        return Part(found.table)
    bad = found.bad_rows()
    if not found.skippable(budget):
        raise DataError(refusal([found], budget))
    belongs = units.members(found.benchmark, found.table)
    gone = {belongs[row] for row in bad}
    out = [row for row in range(len(found.table)) if belongs[row] in gone]
    keep = [row for row in range(len(found.table)) if belongs[row] not in gone]
    held = {"image": images.sources(found.table)} if "image" in found.table.cells else {}
    rest = replace(found.table, cells={**found.table.cells, **held}).only(keep)
    again = [item for item in units.check(found.benchmark, rest, rows.names(rest)) if item.weight is Weight.FAULT]
    if not keep or again:
        why = grouped(again) or ["nothing is left"]
        raise DataError(
            f"{found.table.path}: without the {len(out)} rows that --skip-bad leaves out it cannot be scored: {why[0]}."
        )
    return Part(
        rest,
        tuple(rows.names(found.table)[row].removeprefix("index ") for row in out),
        tuple(grouped(found.faults)),
    )


def refusal(looks: Sequence[Look], budget: int = 0) -> str:
    """Why nothing is asked: each table with faults beyond the budget, and all kinds of its faults."""
    said, needed = [], 0
    for found in looks:
        if not found.faults or found.skippable(budget):
            continue
        bad, count = found.bad_rows(), len(found.faults)
        whole = any(item.row is None for item in found.faults)
        said.append(f"{found.table.path}: {count} fault{'s' if count > 1 else ''}: {'; '.join(grouped(found.faults))}")
        needed = max(needed, 0 if whole else len(bad))
    advice = f" To leave such rows out and have that counted in the notes: --skip-bad {needed}." if needed else ""
    return f"Nothing was asked. {'. '.join(said)}. moslora eval --check names each row.{advice}"
