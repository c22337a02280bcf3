"""Hold engines' answers against those of what was trained; writes the table of docs/export.md.

python scripts/engines/compare.py FOLDER [--write]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[1]
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))

from docs.marked_tables import write_tables  # noqa: E402

BOUNDS = {"fp32": 2e-3, "nf4": 2e-3, "bf16": 5e-2}
"""Of two logits, of the largest: the engine's resampling of the picture and its order of sums, in bf16 rounding."""


def compare(truth: dict[str, Any], found: dict[str, Any], questions: list[dict[str, str]]) -> dict[str, Any]:
    """Of one export in one engine: equal answers (transparent pictures apart), gap of logits, what was left over."""
    if "stopped" in found:
        return {"stopped": found["stopped"]}
    same = [a == b for a, b in zip(truth["answers"], found["answers"], strict=True)]
    clear = [place for place, question in enumerate(questions) if question["shape"] != "transparent"]
    glass = [place for place, question in enumerate(questions) if question["shape"] == "transparent"]
    made = {
        "equal": sum(same[place] for place in clear),
        "of": len(clear),
        "transparent": f"{sum(same[place] for place in glass)} of {len(glass)}",
        "other": sorted({questions[place]["shape"] for place in clear if not same[place]}),
        "left": found.get("left", {}),
    }
    if found.get("logits"):
        pairs = list(zip(truth["logits"], found["logits"], strict=False))
        made["gap"] = max(abs(a - b) for a, b in pairs) / max(abs(a) for a, _ in pairs)
    return made


def main() -> int:
    """Print the table, write it where asked for; 1 when an engine says something else."""
    parser = argparse.ArgumentParser(description="Engines against what was trained")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="into docs/export.md, and the JSON into docs/results")
    options = parser.parse_args()
    truth = json.loads((options.folder / "truth.json").read_text(encoding="utf-8"))
    questions = json.loads((options.folder / "questions" / "questions.json").read_text(encoding="utf-8"))
    rows: dict[str, dict[str, Any]] = {}
    engines = []
    for file in sorted(options.folder.glob("answers-*.json")):
        answers = json.loads(file.read_text(encoding="utf-8"))
        engines.append(answers.pop("engine"))
        for name, found in answers.items():
            model = name.rpartition("-")[0]
            rows.setdefault(name, {})[engines[-1]] = compare(truth[model], found, questions)
    wrong = [
        f"{name} in {engine}: {cell}" for name, row in rows.items() for engine, cell in row.items() if bad(name, cell)
    ]
    text = table(rows, engines)
    print(text)
    if options.write:
        root = SCRIPTS.parent
        (root / "docs" / "results" / "engines.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        write_tables(root / "docs" / "export.md", {"engines": lambda: text})
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return bool(wrong)


def bad(name: str, cell: dict[str, Any]) -> bool:
    """Whether an engine answers otherwise; in bf16, whose sums are rounded in another order, at most one in ten."""
    if "stopped" in cell:
        return False
    kind = name.split("-")[1]
    most = cell["of"] // 10 if kind == "bf16" else 0
    return cell["of"] - cell["equal"] > most or bool(cell["left"]) or cell.get("gap", 0) > BOUNDS[kind]


def table(rows: dict[str, dict[str, Any]], engines: list[str]) -> str:
    """Markdown."""
    lines = [f"| model | run | form | {' | '.join(engines)} |", "|---|---|---|" + "---|" * len(engines)]
    for name, row in rows.items():
        family, kind, form = name.split("-")
        lines.append(f"| {family} | {kind} | {form} | {' | '.join(cell(row.get(engine)) for engine in engines)} |")
    return "\n".join(lines)


def cell(found: dict[str, Any] | None) -> str:
    """One place of the table."""
    if found is None:
        return "not run"
    if "stopped" in found:
        return "stops"
    gap = f", logits {found['gap']:.0e}" if "gap" in found else ""
    return f"{found['equal']} of {found['of']}{gap}"


if __name__ == "__main__":
    sys.exit(main())
