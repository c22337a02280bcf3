"""What the page says at its top, marks as best, and makes of what has no score."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_runs import EVIL, Page, make_run

from moslora_xtuner.eval.report.page import write_report


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [make_run(tmp_path, "LoRA", 60), make_run(tmp_path, EVIL, 80)]


def test_the_top_says_the_result_and_what_was_run(runs: list[Path], tmp_path: Path) -> None:
    path = runs[1] / "scores.json"
    content = json.loads(path.read_text())
    trained = {"seed": 7, "seconds": 5400, "trainable": {"llm": 1_000_000, "projector": 234}}
    content["manifest"] |= {"export": {"source": trained}, "precision": "bf16", "machine": "one GPU"}
    del content["manifest"]["seed"]
    path.write_text(json.dumps(content))
    page = Page(write_report(runs, tmp_path / "out", baseline="LoRA").read_text(encoding="utf-8"))
    top = " ".join(page.text[: page.text.index("Scores")].split())
    assert f"{EVIL} is best on Digits-EN: 80.0, 20.0 points above LoRA (60.0); 95 % interval +1" in top
    assert "p < 0.001: more than noise." in top
    # 20 of 100 questions differ, all for the better: 2.80 x sqrt(0.2 x 0.8 / 100)
    assert "Power: 80 % of such evaluations would find a difference of 11.2 points on Digits-EN" in top
    for fact in ("1,000,234", "90 min", "bf16", "one GPU", "1024", "7"):
        assert fact in top


def cells(page: str, heading: str) -> list[tuple[str, str]]:
    """Class and text of the cells of the first table behind a heading."""
    part = page[page.index(heading) :]
    found = re.findall(r"<td([^>]*)>(.*?)</td>", part[: part.index("</table>")], re.DOTALL)
    return [("best" if "best" in mark else "", re.sub("<small>.*?</small>|<[^>]+>", "", text)) for mark, text in found]


def test_only_what_is_best_is_marked(tmp_path: Path) -> None:
    def entry(overall: float, **further: Any) -> dict[str, Any]:
        return {"overall": overall, "scale": 100, "judge": None, **further}

    def save(name: str, benchmarks: dict[str, Any]) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.json").write_text(json.dumps({"model": name, "benchmarks": benchmarks}))
        return tmp_path / name

    def mme(count: float, scene: float) -> dict[str, Any]:
        chance = {"overall": 150.0, "abilities": {"count": 75.0, "scene": 75.0}}
        points = {"overall": count + scene, "scale": 400.0, "perception": count + scene, "cognition": 0.0}
        return entry(0.0, abilities={"count": count, "scene": scene}, chance=chance) | points

    runs = [
        save("a", {"DigitsMMBench_EN": entry(60.0, chance={"overall": 9.7}), "DigitsMME": mme(100.0, 50.0)}),
        save("b", {"DigitsMMBench_EN": entry(50.0, chance={"overall": 9.7}), "DigitsMME": mme(100.0, 150.0)}),
    ]
    text = write_report(runs, tmp_path / "out").read_text(encoding="utf-8")
    scores = cells(text, "DigitsVQA (real handwriting)</h3>")
    assert [mark for mark, _ in scores] == ["best", "", "", "", "best", "", "", "", ""]
    assert [shown for _, shown in scores if shown[:1].isdigit()] == ["60.0", "37.5", "50.0", "62.5", "9.7", "37.5"]
    assert "Not asked of any model: Digits-CN, Digits-VQA." in Page(text).text
    subtasks = cells(text, "2 subtasks, points")
    # a, b, chance: count, scene, perception, cognition, overall
    assert [mark for mark, _ in subtasks] == [*[""] * 3, "", "best", "", "", "best", "", *[""] * 3, "", "best", ""]
    assert [shown for _, shown in subtasks[2::3]] == ["75.0", "75.0", "150.0", "0.0", "150.0"]
    alone = write_report(runs[:1], tmp_path / "one").read_text(encoding="utf-8")
    assert 'class="best"' not in alone
    # Other judges: nobody is the best there, nor on the mean.
    content = json.loads((runs[1] / "scores.json").read_text())
    content["benchmarks"]["DigitsMMBench_EN"]["judge"] = "gpt-4o-mini"
    (runs[1] / "scores.json").write_text(json.dumps(content))
    text = write_report(runs, tmp_path / "out").read_text(encoding="utf-8")
    assert [mark for mark, _ in cells(text, "DigitsVQA (real handwriting)</h3>")] == [
        "",
        "",
        "",
        "",
        "best",
        "",
        *[""] * 3,
    ]


def test_a_benchmark_that_failed_is_shown_with_its_reason(runs: list[Path], tmp_path: Path) -> None:
    path = runs[0] / "scores.json"
    content = json.loads(path.read_text())
    content["manifest"]["unscored"] = {"DigitsMME": "scoring failed: KeyError: 'artwork'"}
    content["benchmarks"]["DigitsMMBench_EN"]["notes"] = ["2 questions were not asked: no picture (rows 7, 9)."]
    path.write_text(json.dumps(content))
    text = write_report(runs, tmp_path / "out", baseline="LoRA").read_text(encoding="utf-8")
    page = Page(text).text
    assert "LoRA, Digits-MME: not scored: scoring failed: KeyError: 'artwork'." in page
    assert "Digits-EN, LoRA: 2 questions were not asked: no picture (rows 7, 9)." in page
    shown = [text for _, text in cells(text, "DigitsVQA (real handwriting)</h3>")]
    assert shown[:2] == ["60.0", "no score"]
    assert '<small class="near">no mean</small>' in text
