"""Write the tables of a training step on a CPU in docs/performance.md from docs/results/step-*.json and growth.json.

python scripts/document_steps.py [--check]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench.training.table import step_table
from bench.training.titles import TITLES
from docs.marked_tables import write_tables
from gpu.machine import described

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "performance.md"


def read(name: str) -> dict[str, Any]:
    """A result by its name."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def growth_table() -> str:
    """Ratios to the stock way at the ends of each line of the picture."""
    if not (RESULTS / "growth.json").is_file():
        return "Not measured yet."
    found = read("growth")
    lines = [
        f"{described(found['machine'])}; {found['shape']}, {found['layers']} layers, {found['dtype']}, median of "
        f"{found['repeats']} interleaved repeats; the others stay at "
        f"{', '.join(f'{value} {name}' for name, value in found['middle'].items())}.",
        "",
        "| grows | to | " + " | ".join(f"{TITLES[name]}: time, peak" for name in ("moslora", "moslora_fast")) + " |",
        "|---|---|---|---|",
    ]
    for grows in found["middle"]:
        for value in sorted({row["value"] for row in found["rows"] if row["grows"] == grows}):
            at = {r["variant"]: r for r in found["rows"] if r["grows"] == grows and r["value"] == value}
            stock = at["stock_lora"]
            cells = [
                f"{at[name]['step_s'] / stock['step_s']:.2f}, {at[name]['peak_bytes'] / stock['peak_bytes']:.2f}"
                for name in ("moslora", "moslora_fast")
            ]
            lines.append(f"| {grows} | {value} | {' | '.join(cells)} |")
    return "\n".join(lines)


def step(name: str) -> str:
    """A table of bench_train.py under its machine."""
    found = read(name)
    return f"{described(found['machine'])}.\n\n{step_table(found)}"


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    tables = {
        "step-tiny": lambda: step("step-tiny"),
        "step-wide": lambda: step("step-wide"),
        "growth": growth_table,
    }
    write_tables(PAGE, tables, check=args.check)


if __name__ == "__main__":
    main()
