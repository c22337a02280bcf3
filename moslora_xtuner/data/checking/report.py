"""What a check found, written down: a page for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...atomic import atomic_file, atomic_json, atomic_write
from ...output import claim
from ..problem_kinds import FAULTS, REMARKS
from ..reading.problems import Problem
from .check import CheckReport
from .mix665k import source_table

KIND = "data check"


@dataclass
class Reporting:
    """Takes the problems one by one, and the report at the end."""

    problem: Callable[[Problem], None] | None
    write: Callable[[CheckReport], None]


@contextmanager
def reporting(folder: Path | None) -> Iterator[Reporting]:
    """Yield where a check's problems go: `folder`, or nowhere.

    The folder holds `problems.jsonl` (every problem, in the order of the records), `report.json` (counts and examples)
    and `report.html`; an earlier check's report there is replaced.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    if folder is None:
        yield Reporting(None, lambda report: None)
        return
    claim(folder, KIND)
    with atomic_file(folder / "problems.jsonl") as log:

        def problem(found: Problem) -> None:
            log.write(json.dumps(found.as_json(), ensure_ascii=False) + "\n")

        yield Reporting(problem, lambda report: write_report(report, folder))


def as_json(report: CheckReport) -> dict[str, Any]:
    """The report for a machine."""
    return {
        "sources": report.sources,
        "images": str(report.images),
        "records": report.records,
        "bad": report.bad,
        "text_only": report.text_only,
        "faults": dict(report.tally.kinds(fault=True)),
        "remarks": dict(report.tally.kinds(fault=False)),
        "examples": {kind: [found.as_json() for found in kept] for kind, kept in report.tally.examples.items()},
        "by_source": [asdict(row) for row in source_table(report.by_folder, report.missing)],
    }


def write_report(report: CheckReport, folder: Path) -> None:
    """Write `report.json` and `report.html`."""
    import jinja2

    facts = as_json(report)
    atomic_json(folder / "report.json", facts, indent=2)
    text = (files("moslora_xtuner") / "assets" / "check_report.html").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    atomic_write(
        folder / "report.html",
        page.render(
            report=report,
            rows=source_table(report.by_folder, report.missing),
            groups=[("Faults", FAULTS, report.tally.kinds(True)), ("Remarks", REMARKS, report.tally.kinds(False))],
        ),
    )


def sources_text(report: CheckReport) -> str:
    """Records by source, beside the published mix's where the data is like it."""
    rows = source_table(report.by_folder, report.missing)
    cells = [("source", "records", "published", "image missing")]
    cells += [
        (row.name, f"{row.found:,}", "" if row.expected is None else f"{row.expected:,}", f"{row.missing:,}")
        for row in rows
    ]
    if not any(row.expected for row in rows):
        cells = [(name, found, missing) for name, found, _, missing in cells]  # type: ignore[misc]
    widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
    lines = []
    for name, *numbers in cells:
        aligned = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join(["", name.ljust(widths[0]), *aligned]))
    lines += [f"  get {row.name}: {row.where}" for row in rows if row.where]
    return "\n".join(lines)
