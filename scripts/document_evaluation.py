"""Write the tables of docs/evaluation.md (the benchmarks, and odd tables), and the pictures of a report.

python scripts/document_evaluation.py [--check]
python scripts/document_evaluation.py --pictures chromium      # the browser's command
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from docs.browser_pictures import take
from docs.evaluated_runs import make_run
from docs.marked_tables import write_tables
from make_benchmarks_like import make_benchmarks

from moslora_xtuner.eval.report.page import write_report
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, Benchmark

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "evaluation.md"
CASES = Path(__file__).parents[1] / "tests" / "eval" / "cases" / "cases.json"
DEMO = {"made-up LoRA": 0.5, "made-up MoSLoRA": 0.56, "made-up MoSLoRA, Kaiming": 0.53}
"""The models of the pictures, and in what part of the questions they are right."""
PARTS = ("scores", "radar", "changes")
"""Where on the page the narrow picture looks."""
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
    """Markdown; those of text alone stand in docs/commonsense.md."""
    head = "| group | benchmark | name | asked for | unit | VLMEvalKit's judge | scale | longest answer, tokens |"
    pictured = [item for item in BENCHMARKS.values() if item.kind != "label"]
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *map(row, pictured)])


def case(item: dict[str, Any]) -> str:
    """One line of the table of odd tables."""
    right, kit = f"{item['right']:.0f}", item["kit"].replace(".0", "")
    if item["here"] is None:
        here = "not asked" if item.get("skipped") is None else f"not asked; without it {item['skipped']:.0f}"
    else:
        here = f"{item['here']:.0f}" + (", said" if item["says"] else "")
        here += f"; {item['fixed']:.0f} with `--kit-fixes`" if item.get("fixed") is not None else ""
    return f"| {item['kind']} | {item['benchmark']} | {right} | {kit} | {here} |"


def odd_tables() -> str:
    """Markdown, from the cases that test_look.py tries: what is right first, then what is said, what is refused."""
    found: list[dict[str, Any]] = json.loads(CASES.read_text(encoding="utf-8"))
    order = sorted(found, key=lambda item: (item["here"] is None, item["here"] != item["right"]))
    head = "| what is odd | read as | right, by hand | VLMEvalKit alone | here |"
    return "\n".join([head, "|---|---|---|---|---|", *map(case, order)])


def make_pictures(browser: str) -> None:
    """A report over made-up answers to stand-ins of the nine benchmarks, wide and at the width of a telephone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = make_benchmarks(folder / "LMUData", questions=160)
        runs = [make_run(folder / model, folder / "LMUData", key, model, share) for model, share in DEMO.items()]
        page = write_report(runs, folder / "out", baseline=runs[0].name, title="Demonstration with made-up answers")
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace('<details class="changes" data-changes>', "<details open data-changes>", 1))
        take(browser, page, DOCS / "results" / "report-wide.png", 1200, 2100)
        frames = (f'<iframe src="{page.as_uri()}#{part}"></iframe>' for part in PARTS)
        style = "body{margin:0;display:flex;gap:20px;background:#c8ccd4}iframe{width:360px;height:1500px;border:0}"
        narrow = folder / "narrow.html"
        narrow.write_text(f"<!doctype html><style>{style}</style>{''.join(frames)}")
        take(browser, narrow, DOCS / "results" / "report-360.png", 380 * len(PARTS) - 20, 1500)


def main() -> None:
    """Write or check the page, or make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the page is out of date")
    parser.add_argument("--pictures", metavar="BROWSER", help="only make the pictures, with this browser's command")
    args = parser.parse_args()
    if args.pictures:
        make_pictures(args.pictures)
    else:
        write_tables(PAGE, {"benchmarks": benchmarks, "odd-tables": odd_tables}, check=args.check)


if __name__ == "__main__":
    main()
