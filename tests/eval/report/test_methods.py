"""Methods over seeds: means with their spread, and differences, in the printed tables and on the page."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from scipy import stats

from moslora_xtuner.eval.report import methods
from moslora_xtuner.eval.report.group_table import build
from moslora_xtuner.eval.report.page import write_report
from moslora_xtuner.eval.report.score_table import table
from moslora_xtuner.eval.results import scores

LORA, MIXED = (50.0, 53.0, 47.5), (60.0, 55.0, 59.0)


def make(root: Path, model: str, value: float, seed: int) -> Path:
    folder = root / model
    folder.mkdir()
    entry = {"DigitsTextVQA": {"overall": value, "scale": 100.0, "judge": None}}
    content = {"model": model, "benchmarks": entry, "manifest": {"seed": seed}}
    (folder / "scores.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    found = [make(tmp_path, f"LoRA, seed {seed}", value, seed) for seed, value in enumerate(LORA)]
    return found + [make(tmp_path, f"MoSLoRA, seed {seed}", value, seed) for seed, value in enumerate(MIXED)]


def test_mean_and_spread_are_printed(runs: list[Path]) -> None:
    text = table(runs, "markdown", baseline="LoRA, seed 0")
    mean, spread = statistics.mean(MIXED), statistics.stdev(MIXED)
    assert f"| MoSLoRA | 3 | **{mean:.1f} ± {spread:.1f}** | – |" in text
    assert f"| LoRA | 3 | {statistics.mean(LORA):.1f} ± {statistics.stdev(LORA):.1f} | – |" in text
    welch = stats.ttest_ind(MIXED, LORA, equal_var=False)
    low, high = welch.confidence_interval()
    gap = statistics.mean(MIXED) - statistics.mean(LORA)
    assert f"| Digits-VQA | {gap:+.1f} ({low:+.1f} to {high:+.1f}), p = {welch.pvalue:.3f} |" in text
    assert "the interval is over seeds alone" in text
    # One seed of the baseline's three is nothing to compare single runs with.
    assert "Difference from LoRA, seed 0" not in text
    assert "Difference from LoRA" in text


def test_on_the_page(runs: list[Path], tmp_path: Path) -> None:
    text = write_report(runs, tmp_path / "out", baseline="LoRA, seed 0").read_text(encoding="utf-8")
    assert "58.0 ± 2.6" in text
    assert "Difference from LoRA over seeds" in text
    assert "Difference from LoRA, seed 0" not in text


def test_without_several_seeds_there_is_no_such_table(runs: list[Path]) -> None:
    two = [scores.read(folder) for folder in (runs[0], runs[3])]
    built = build(two, "digits")
    assert methods.grid(built, two) is None
    assert methods.gaps(built, two, two[0], {run.model: {} for run in two}) == {}


def test_copies_of_one_seed_are_named(runs: list[Path], tmp_path: Path) -> None:
    make(tmp_path, "LoRA, seed 9", 51.0, seed=1)
    loaded = [scores.read(folder) for folder in (*runs, tmp_path / "LoRA, seed 9")]
    found = methods.grid(build(loaded, "digits"), loaded)
    assert found is not None
    assert found.notes[1:] == ["LoRA: several runs say that they are of seed 1."]


def test_seeds_that_were_not_asked_alike_have_no_mean(runs: list[Path]) -> None:
    path = runs[1] / "scores.json"
    content = json.loads(path.read_text())
    content["benchmarks"]["DigitsTextVQA"]["limit"] = 5
    path.write_text(json.dumps(content))
    loaded = [scores.read(folder) for folder in runs]
    built = build(loaded, "digits")
    found = methods.grid(built, loaded)
    assert found is not None
    assert found.rows[0] == ["LoRA", "3", "–", "–"]
    assert not found.bold
    (gap, _) = (row for row in methods.gaps(built, loaded, loaded[0], {r.model: {} for r in loaded})["MoSLoRA"][-2:])
    assert gap.estimate is None
