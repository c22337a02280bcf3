"""Write the table of docs/data.md: the kinds of problems and what to do about each.

    python scripts/document_data.py [--check]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from marked_tables import write_tables

from moslora_xtuner.data.problems import FAULTS, REMARKS

PAGE = Path(__file__).parents[1] / "docs" / "data.md"


def kinds() -> str:
    """Markdown."""
    lines = ["| fault | what to do |", "|---|---|", *(f"| {kind} | {remedy} |" for kind, remedy in FAULTS.items())]
    lines += ["", "| remark | |", "|---|---|", *(f"| {kind} | {what} |" for kind, what in REMARKS.items())]
    return "\n".join(lines).replace("<image>", "`<image>`")


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    write_tables(PAGE, {"kinds": kinds}, check=parser.parse_args().check)


if __name__ == "__main__":
    main()
