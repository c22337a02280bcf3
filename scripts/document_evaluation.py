"""Write the tables of docs/evaluation.md (the benchmarks, odd tables, the plan of power), and the pictures of a report.

python scripts/document_evaluation.py [--check]
python scripts/document_evaluation.py --pictures chromium      # the browser's command
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from docs.browser_pictures import take
from docs.evaluated_runs import MADE as MADE_UP
from docs.evaluated_runs import make_run
from docs.marked_tables import write_tables
from make_benchmarks_like import make_benchmarks

from moslora_xtuner.eval.report.page import write_report
from moslora_xtuner.eval.results import power
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, Benchmark

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "evaluation.md"
CASES = Path(__file__).parents[1] / "tests" / "eval" / "cases" / "cases.json"
DEMO = {"base": 0.2, "made-up LoRA": 0.5, "made-up MoSLoRA": 0.56}
"""The models of the pictures, and in what part of the questions they are right."""
SEEDS = {
    "made-up LoRA, seed 1": 0.50,
    "made-up LoRA, seed 2": 0.51,
    "made-up LoRA, seed 3": 0.49,
    "made-up MoSLoRA, seed 1": 0.54,
    "made-up MoSLoRA, seed 2": 0.52,
    "made-up MoSLoRA, seed 3": 0.55,
}
WEIGHTS = {"made-up LoRA": 10_485_760, "made-up MoSLoRA": 10_493_952}
"""What the models that do not exist have trained."""
MADE = replace(MADE_UP, precision="bf16", machine="a made-up machine")
WIDE, PHONE = 1300, 390
PARTS = ("result", "radar", "changes")
"""Where on the page the narrow picture looks."""
PLANNED = (100, 200, 500, 1000, 2000, 5000, 14_000)
DIFFERING = (0.05, 0.1, 0.2, 0.3)
"""The tables of questions, and the shares of them that two models get otherwise, of the plan of power."""
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


def plan_of_power() -> str:
    """Markdown: the smallest difference that 80 % of evaluations show, by questions and share of differing ones."""
    head = "| questions | " + " | ".join(f"{100 * share:.0f} % otherwise" for share in DIFFERING) + " |"
    rows = []
    for questions in PLANNED:
        points = [power.smallest(questions, share) for share in DIFFERING]
        rows.append(f"| {questions:,} | " + " | ".join("-" if p is None else f"{p:.1f}" for p in points) + " |")
    return "\n".join([head, "|---:" * (len(DIFFERING) + 1) + "|", *rows])


def make_pictures(browser: str) -> None:
    """Reports over made-up answers to stand-ins of the nine benchmarks, wide and at the width of a telephone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = make_benchmarks(folder / "LMUData", questions=160)
        page, over_seeds = (_report(folder, key, models) for models in (DEMO, SEEDS))
        take(browser, page, DOCS / "results" / "report-wide.png", WIDE, 2250)
        take(browser, over_seeds, DOCS / "results" / "report-seeds.png", WIDE, 1330)
        opened = page.with_name("opened.html")
        text = page.read_text(encoding="utf-8")
        opened.write_text(text.replace('<details class="changes"', '<details open class="changes"', 1))
        frames = (f'<iframe src="{opened.as_uri()}#{part}"></iframe>' for part in PARTS)
        style = (
            f"body{{margin:0;display:flex;gap:20px;background:#c8ccd4}}iframe{{width:{PHONE}px;height:1500px;border:0}}"
        )
        narrow = folder / "narrow.html"
        narrow.write_text(f"<!doctype html><style>{style}</style>{''.join(frames)}")
        take(browser, narrow, DOCS / "results" / "report-390.png", (PHONE + 20) * len(PARTS) - 20, 1500)


def _report(folder: Path, key: dict[str, Any], models: dict[str, float]) -> Path:
    """The page over these models, the first LoRA as baseline."""
    runs = []
    for model, share in models.items():
        method, _, seed = model.partition(", seed ")
        trained = {"seed": int(seed or 1), "seconds": 71_000, "trainable": {"llm": WEIGHTS.get(method, 0)}}
        facts = {"export": {"source": trained}} if method in WEIGHTS else {}
        runs.append(make_run(folder / model, folder / "LMUData", key, model, share, facts, MADE))
    base = next(model for model in models if model in WEIGHTS or "LoRA" in model)
    return write_report(
        runs, folder / f"report of {len(models)}", baseline=base, title="Demonstration with made-up answers"
    )


def main() -> None:
    """Write or check the page, or make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the page is out of date")
    parser.add_argument("--pictures", metavar="BROWSER", help="only make the pictures, with this browser's command")
    args = parser.parse_args()
    if args.pictures:
        make_pictures(args.pictures)
    else:
        tables = {"benchmarks": benchmarks, "odd-tables": odd_tables, "power": plan_of_power}
        write_tables(PAGE, tables, check=args.check)


if __name__ == "__main__":
    main()
