"""The page in a real browser: sorting, filters and pictures that work under the page's own security policy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from moslora_xtuner.eval.report.page import write_report
from moslora_xtuner.eval.tasks.registry import ABILITIES, GROUPS

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
    dom = after(page, f"{column} b[1].click();")  # Digits-VQA
    assert order(dom) == ["one", "two", "zero"]
    assert dom.count('aria-sort="descending"') == 1
    assert order(after(page, f"{column} b[1].click(); b[1].click();")) == ["zero", "two", "one"]
    dom = after(page, f"{column} b[1].click(); b[0].click();")
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


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page over two runs of the nine benchmarks, one with a long name."""
    root = tmp_path_factory.mktemp("nine")
    runs = []
    for number, model in enumerate(("LoRA", "LLaMA-3+ViT MoSLoRA (orthogonal)")):
        entries = {
            name: {"overall": 50.0 + number, "scale": 100.0, "judge": None, "abilities": dict.fromkeys(ABILITIES, 50.0)}
            for name in GROUPS["paper"]
        }
        (root / str(number)).mkdir()
        (root / str(number) / "scores.json").write_text(json.dumps({"model": model, "benchmarks": entries}))
        runs.append(root / str(number))
    return write_report(runs, root / "out", baseline="LoRA")


SEEN = """() => {
    const table = document.querySelector("table.sortable");
    const box = table.closest(".scroll");
    const near = [...table.querySelectorAll(".near")];
    const whole = item => !item.closest("details:not([open])");
    return {
        page: document.documentElement.scrollWidth,
        hint: !box.nextElementSibling.hidden,
        means: near.map(item => getComputedStyle(item).display === "none" ? "" : item.textContent.trim()),
        right: Math.max(...near.map(item => item.getBoundingClientRect().right)),
        broken: [...document.querySelectorAll(".w")].filter(whole).filter(w => w.getClientRects().length > 1).length,
        names: document.querySelectorAll(".w").length,
        radars: [...document.querySelectorAll(".radars img")].map(item => {
            const place = item.getBoundingClientRect();
            return [place.top, place.right];
        }),
    };
}"""


def test_on_a_telephone_and_on_a_wide_screen(nine: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        found = {}
        for width in (390, 1300):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(nine.as_uri())
            page.wait_for_timeout(300)
            found[width] = page.evaluate(SEEN)
        browser.close()
    for width, seen in found.items():
        assert seen["page"] == width  # nothing but tables scrolls sideways
        assert seen["broken"] == 0
        assert seen["names"] > 20
    assert found[390]["hint"]
    assert found[390]["means"] == ["mean 50.0", "mean 51.0"]
    assert found[390]["right"] < 390
    assert not found[1300]["hint"]
    assert found[1300]["means"] == ["", ""]
    # Four radars in a row, up to the right edge of the page.
    assert len({top for top, _ in found[1300]["radars"]}) == 1
    assert max(right for _, right in found[1300]["radars"]) > 1250
