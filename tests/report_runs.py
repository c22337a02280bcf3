"""Runs with little in them, for tests of reports, and a page read back."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from moslora_xtuner.eval.tasks.registry import ABILITIES

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
EVIL = '<script>alert("x")</script>&'


def make_run(root: Path, name: str, right: int) -> Path:
    """A run on 100 circular groups, the first `right` of them right."""
    folder = root / f"run{right}"
    (folder / "outcomes").mkdir(parents=True)
    (folder / "samples").mkdir()
    abilities = dict.fromkeys(ABILITIES, float(right))
    entry: dict[str, Any] = {
        "overall": float(right),
        "scale": 100.0,
        "judge": "exact_matching",
        "abilities": abilities,
        "vanilla": {"overall": 90.0, "abilities": abilities},
        "categories": {EVIL: 12.5},
        "parse_failures": 3,
        "questions": 300,
        "units": 100,
        "unit": "circular group",
        "chance": {"overall": 9.7, "abilities": abilities},
    }
    manifest = {"seed": 1024, "versions": {"torch": "2.11.0"}, "command": EVIL}
    content = {"model": name, "benchmarks": {"DigitsMMBench_EN": entry}, "manifest": manifest}
    (folder / "scores.json").write_text(json.dumps(content))
    outcomes = [{"unit": str(i), "score": float(i < right), "ability": "AR"} for i in range(100)]
    (folder / "outcomes" / "DigitsMMBench_EN.jsonl").write_text("".join(json.dumps(o) + "\n" for o in outcomes))
    sample = {
        "index": "1",
        "ability": "AR",
        "question": EVIL,
        "options": {"A": EVIL},
        "answer": "A",
        "prediction": EVIL,
        "hit": 1.0,
        "image": PIXEL,
    }
    other = {**sample, "index": "2", "hit": 0.0, "image": "https://example.org/x.png"}
    lines = json.dumps(sample) + "\n" + json.dumps(other) + "\n"
    (folder / "samples" / "DigitsMMBench_EN.jsonl").write_text(lines)
    (folder / "answers").mkdir()
    answers = [
        {
            "index": str(i),
            "unit": str(i),
            "ability": "AR",
            "question": EVIL,
            "options": {"A": EVIL},
            "answer": "A",
            "prediction": "A" if i < right else f"no idea {EVIL}",
            "hit": float(i < right),
        }
        for i in range(100)
    ]
    (folder / "answers" / "DigitsMMBench_EN.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers))
    return folder


class Page(HTMLParser):
    """Tags with their attributes, and the text that is seen."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data
