"""Write the table of docs/evaluation.md (the benchmarks), and the pictures of a report.

python scripts/document_evaluation.py [--check]
python scripts/document_evaluation.py --pictures chromium      # the browser's command
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from docs.browser_pictures import take
from docs.evaluated_runs import make_run
from docs.marked_tables import write_tables
from make_benchmarks_like import make_benchmarks

from moslora_xtuner.eval.report.page import write_report
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, Benchmark

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "evaluation.md"
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
        write_tables(PAGE, {"benchmarks": benchmarks}, check=args.check)


if __name__ == "__main__":
    main()
