"""Write the table of benchmarks in docs/evaluation.md from the code; --check only compares.

python scripts/document_evaluation.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from marked_tables import write_tables
from moslora_xtuner.eval.benchmarks import BENCHMARKS, Benchmark

PAGE = Path(__file__).parents[1] / "docs" / "evaluation.md"
ASKED = {
    "mcq": "options, a letter",
    "yesno": "yes or no",
    "vqa": "a word or phrase",
    "open": "the question alone",
}


def row(item: Benchmark) -> str:
    """One line of the table."""
    judge = "-" if item.judge is None else f"{item.judge}, needed" if item.needs_judge else item.judge
    scale = "200 a subtask" if item.scale is None else f"{item.scale:g}"
    return (
        f"| {item.group} | {item.title} | `{item.dataset}` | {ASKED[item.kind]} | {item.unit} | {judge} | {scale} | "
        f"{item.max_new_tokens} |"
    )


def benchmarks() -> str:
    """Markdown."""
    head = "| group | benchmark | name | asked for | unit | VLMEvalKit's judge | scale | longest answer, tokens |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *map(row, BENCHMARKS.values())])


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the page is out of date")
    write_tables(PAGE, {"benchmarks": benchmarks}, check=parser.parse_args().check)


if __name__ == "__main__":
    main()
