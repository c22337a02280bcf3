"""The table of CONTRIBUTING.md that lists every work-around for upstream: read from the marks in the code.

    python scripts/document_workarounds.py            # write it
    python scripts/document_workarounds.py --check    # exit 1 where it says something else

A mark is `WORK-AROUND PACKAGE VERSION (PLACE): what is wrong.` in a docstring or a comment, and says when it can go.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.marked_tables import write_tables

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("moslora_xtuner", "eval", "scripts")
MARK = re.compile(r"WORK-AROUND (?P<upstream>[^:]+?): (?P<what>.*?)(?:\. |\.$).*?Can go (?P<until>.*?)\.(?: |$)")


@dataclass(frozen=True)
class WorkAround:
    """One mark: where, for what upstream, what is wrong there, and when it can go."""

    file: str
    upstream: str
    what: str
    until: str


def workarounds() -> list[WorkAround]:
    """Every mark in the code, by file.

    Raises SystemExit for one that does not say what it is for or when it can go.
    """
    found = []
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path == Path(__file__).resolve():
                continue
            name = str(path.relative_to(ROOT))
            for block in _blocks(path.read_text(encoding="utf-8")):
                mark = MARK.search(block)
                if mark is None:
                    raise SystemExit(f"error: {name}: a work-around does not say of what, or when it can go: {block}")
                found.append(WorkAround(name, mark["upstream"], mark["what"], mark["until"]))
    return found


def _blocks(text: str) -> Iterator[str]:
    """The comment or docstring around each mark, as one line."""
    lines = text.split("\n")
    for place, line in enumerate(lines):
        if "WORK-AROUND " not in line:
            continue
        comment = line.lstrip().startswith("#")
        block = []
        for further in lines[place:]:
            block.append(further.strip().strip("#").strip().removeprefix('"""'))
            if (comment and not further.lstrip().startswith("#")) or (not comment and further.rstrip().endswith('"""')):
                break
        yield " ".join(block).removesuffix('"""').strip()


def table() -> str:
    """As Markdown."""
    rows = [f"| `{item.file}` | {item.upstream} | {item.what} | {item.until} |" for item in workarounds()]
    return "\n".join(["| file | upstream | what is wrong there | can go |", "|---|---|---|---|", *rows])


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    write_tables(ROOT / "CONTRIBUTING.md", {"work-arounds": table}, check=parser.parse_args().check)


if __name__ == "__main__":
    main()
