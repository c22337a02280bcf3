"""The scores in a terminal: intervals, question counts, nothing wider than it, no column of dashes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from moslora_xtuner.eval.report import formats
from moslora_xtuner.eval.report.formats import Grid
from moslora_xtuner.eval.report.score_table import table
from moslora_xtuner.eval.tasks.registry import GROUPS

NINE = GROUPS["paper"]


def make(root: Path, model: str, right: int, datasets: tuple[str, ...] = NINE) -> Path:
    """A run on 100 units a benchmark, the first `right` of them right."""
    folder = root / f"run {right}"
    (folder / "outcomes").mkdir(parents=True)
    lines = "\n".join(json.dumps({"unit": str(i), "score": float(i < right), "ability": ""}) for i in range(100))
    entries = {}
    for name in datasets:
        unit = "circular group" if name.startswith("MMBench") else "question"
        entry = {"overall": float(right), "scale": 100.0, "judge": None, "units": 100, "questions": 300, "unit": unit}
        entries[name] = entry | ({"chance": {"overall": 25.0}} if unit == "question" else {})
        (folder / "outcomes" / f"{name}.jsonl").write_text(lines)
    (folder / "scores.json").write_text(json.dumps({"model": model, "benchmarks": entries}))
    return folder


@pytest.mark.parametrize(("columns", "models"), [(100, 1), (100, 2), (100, 3), (100, 6), (80, 3), (60, 2)])
def test_no_line_is_wider_than_the_terminal(
    columns: int, models: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    names = ["LLaMA-3+ViT MoSLoRA (orthogonal)", "LoRA", "made-up MoSLoRA, Kaiming", "b", "base", "a-long-name-" * 4]
    runs = [make(tmp_path, name, 50 + place) for place, name in enumerate(names[:models])]
    text = table(runs, "terminal", baseline=names[0], paper=True)
    assert max(map(len, text.splitlines())) <= columns
    found = re.findall(r"^MMB-EN .*?((?:\d+\.\d \(\d+\.\d to \d+\.\d\)\*? *)+)$", text, re.MULTILINE)
    assert sum(cells.count("to") for cells in found) == models
    assert "…" not in text


def test_values_intervals_counts_and_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = table([make(tmp_path, "a", 60), make(tmp_path, "b", 40)], "terminal")
    lines = {line.split()[0]: line.split() for line in text[text.index("\nbenchmark ") + 1 :].splitlines() if line}
    assert lines["benchmark"] == ["benchmark", "questions", "chance", "a", "b"]
    assert lines["MMB-EN"][:3] == ["MMB-EN", "100", "groups"]
    assert lines["AI2D"][1:4] == ["100", "25.0", "60.0"]
    low, to, high, other = lines["AI2D"][4:8]
    # 60 +- 1.96 x 100 x sqrt(0.6 x 0.4 / 100), and the best has a star
    assert float(low.strip("(")) == pytest.approx(60 - 9.6, abs=1)
    assert float(high.strip(")*")) == pytest.approx(60 + 9.6, abs=1)
    assert (to, high[-1], other) == ("to", "*", "40.0")
    # The mean of nine: a third of the width.
    assert float(lines["mean"][2].strip("(")) == pytest.approx(60 - 3.2, abs=0.5)


def test_the_mean_of_chance_where_all_have_one(tmp_path: Path) -> None:
    text = table([make(tmp_path, "a", 60, GROUPS["digits"])], "terminal")
    assert re.search(r"^mean +25\.0 +60\.0 ", text, re.MULTILINE)


def test_what_was_not_asked_has_no_row_and_a_withheld_mean_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    folder = make(tmp_path, "a", 60, NINE[2:5])
    path = folder / "scores.json"
    content = json.loads(path.read_text()) | {"manifest": {"unscored": {"MME": "judge unavailable: refused"}}}
    path.write_text(json.dumps(content))
    text = table([folder], "terminal")
    rows = [line.split()[0] for line in text[text.index("\nbenchmark ") + 1 :].splitlines()][2:7]
    assert rows == ["SEED-img", "AI2D", "SciQA", "MME", "mean"]
    assert re.search(r"^MME +no score$", text, re.MULTILINE)
    assert re.search(r"^mean +withheld$", text, re.MULTILINE)
    words = " ".join(text.split())
    assert "Not asked of any model: MMB-EN, MMB-CN, TextVQA, MathVista, MM-Vet." in words
    assert "Mean of a withheld: missing MMB-EN, MMB-CN, TextVQA, MathVista, MM-Vet; MME: judge unavailable." in words
    assert "a, MME: not scored: judge unavailable: refused." in words


def test_a_grid_goes_on_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    grid = Grid(
        ["name", "first one", "second", "third"], [["x", "1" * 12, "2" * 12, "3" * 12]], bold=frozenset({(0, 2)})
    )
    first, second = (block.splitlines() for block in formats.as_terminal(grid).split("\n\n"))
    assert [line.split() for line in first] == [
        ["name", "first", "one", "second"],
        first[1].split(),
        ["x", "1" * 12, "2" * 12 + "*"],
    ]
    assert second[0].split() == ["name", "third"]
    assert second[-1] == "* the best"


def test_bold_in_every_format() -> None:
    grid = Grid(["m", "a"], [["x", "1"], ["y", "2"]], bold=frozenset({(1, 1)}))
    assert "| y | **2** |" in formats.as_markdown(grid)
    assert r"y & \textbf{2} \\" in formats.as_latex(grid)
    assert "<tr><th>y</th><td><b>2</b></td></tr>" in formats.as_html(grid)
    assert formats.as_csv(grid) == "m,a\nx,1\ny,2\n"
    turned = grid.transposed("b")
    assert (turned.header, [list(row) for row in turned.rows], set(turned.bold)) == (
        ["b", "x", "y"],
        [["a", "1", "2"]],
        {(0, 2)},
    )


def test_a_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    text = table([make(tmp_path, "\x1b[31mred\x07\x9b0m", 60), make(tmp_path, "b", 40)], "terminal")
    assert "[31mred" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_runs_of_one_name_keep_their_own_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    runs = [make(tmp_path, "same", 60), make(tmp_path, "same", 20)]
    text = table(runs, "terminal")
    cells = re.findall(r"(\d+\.\d) \((\d+\.\d) to", "".join(re.findall(r"^AI2D.*", text, re.MULTILINE)))
    assert [value for value, _ in cells] == ["60.0", "20.0"]
    assert [float(low) for _, low in cells] == pytest.approx([50.4, 12.2], abs=1)
    assert all(f"run {right}" in table(runs, "markdown") for right in (60, 20))
    assert [row.split(",")[0] for row in table(runs, "csv").splitlines()[1:]] == ["same", "same"]
