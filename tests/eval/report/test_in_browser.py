"""The page in a real browser: sorting, filters and pictures that work under the page's own security policy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from moslora_xtuner.eval.report.page import write_report

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine to open the page with"),
]
NAMES = {"zero": 10, "one": 30, "two": 20}


def make(root: Path, model: str, right: int) -> Path:
    """A run on 40 questions, the first `right` of them right; answers differ in text where the index is 39."""
    folder = root / model
    (folder / "answers").mkdir(parents=True)
    entry = {"overall": right / 0.4, "scale": 100.0, "judge": None}
    (folder / "scores.json").write_text(json.dumps({"model": model, "benchmarks": {"DigitsTextVQA": entry}}))
    lines = []
    for i in range(40):
        text = "7" if i < right else f"8 {model}" if i == 39 else "8"
        line = {"index": str(i), "unit": str(i), "ability": "", "question": "?", "options": {}, "answer": "7"}
        lines.append(json.dumps(line | {"prediction": text, "hit": float(i < right)}) + "\n")
    (folder / "answers" / "DigitsTextVQA.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    return write_report([make(root, name, right) for name, right in NAMES.items()], root / "out", baseline="zero")


def after(page: Path, script: str) -> str:
    """The page's DOM once it is loaded and `script` has run in it."""
    acting = page.with_name("acting.html")
    acting.write_text(page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    folder = f"--user-data-dir={page.parent / 'profile'}"
    done = subprocess.run([*command, folder, acting.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def order(dom: str) -> list[str]:
    table = dom[dom.index('class="sortable"') :]
    return re.findall(r'<th scope="row" data-sort="(\w+)"', table[: table.index("</table>")])


def test_scores_sort_by_a_click_on_their_column(page: Path) -> None:
    assert order(after(page, "")) == ["zero", "one", "two"]
    column = "const b = document.querySelectorAll('.sortable thead button');"
    dom = after(page, f"{column} b[4].click();")  # Digits-VQA
    assert order(dom) == ["one", "two", "zero"]
    assert dom.count('aria-sort="descending"') == 1
    assert order(after(page, f"{column} b[4].click(); b[4].click();")) == ["zero", "two", "one"]
    dom = after(page, f"{column} b[4].click(); b[0].click();")
    assert order(dom) == ["one", "two", "zero"]
    assert dom.count('aria-sort="ascending"') == 1
    assert dom.count('aria-sort="descending"') == 0


def shown(dom: str) -> tuple[int, str]:
    """How many cards are not hidden, and how many the page says they are."""
    cards = re.findall(r'<div class="card" data-tags="[^"]*"( hidden="")?>', dom)
    said = re.search(r'role="status">([^<]*)<', dom)
    assert said is not None
    return sum(not hidden for hidden in cards), said[1]


def test_filters_of_changed_answers(page: Path) -> None:
    # gained by one: 10-29, by two: 10-19; only the text of 39 differs
    click = "document.querySelector('[data-kind={}]').click();"
    choose = "const s = document.querySelector('.filters select'); s.value = '1'; s.dispatchEvent(new Event('change'));"
    assert shown(after(page, "")) == (21, "21 questions")
    assert shown(after(page, click.format("gained"))) == (20, "20 questions")
    assert shown(after(page, click.format("lost"))) == (0, "0 questions")
    assert shown(after(page, click.format("changed"))) == (1, "1 question")
    assert shown(after(page, choose)) == (11, "11 questions")
    dom = after(page, choose + click.format("gained"))
    assert shown(dom) == (10, "10 questions")
    assert re.findall(r'data-kind="(\w*)" aria-pressed="true"', dom) == ["gained"]
