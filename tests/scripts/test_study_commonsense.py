"""The study of the commonsense methods: what it compares and claims, and the whole way on a stand-in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import standins
from commonsense_study.outcome import SETS, Study, compare, comparisons, figure, table
from places import ROOT
from scipy.stats import binom


def study(methods: dict[str, list[float]]) -> Study:
    """Scores that are the same for all eight sets."""
    scores = {method: [dict.fromkeys(SETS, value) for value in values] for method, values in methods.items()}
    return Study(scores, {"LoRA": [3600.0, 1800.0]}, {"seeds": 6}, 720.0)


def test_the_rank_test_by_hand() -> None:
    """Six differences of one sign: of 2**6 equally likely signs two are as extreme."""
    found = compare("a", "b", [50.0] * 6, [51.0, 52.0, 53.0, 54.0, 55.0, 56.0])
    assert found.p == pytest.approx(2 / 2**6) == pytest.approx(2 * binom.pmf(6, 6, 0.5))
    assert (found.mean, found.above, found.below, found.seeds) == (3.5, 6, 0, 6)
    assert compare("a", "b", [1.0, 2.0], [1.0, 2.0]).p == 1.0


def test_three_methods_are_three_tests() -> None:
    rising = [50.0, 51.0, 52.0, 53.0, 54.0, 55.0]
    made = study({"LoRA": rising, "frozen mixer": rising, "MoSLoRA": [value + 1 + value / 100 for value in rising]})
    found = {(item.first, item.second): item for item in comparisons(made)}
    assert len(found) == 3
    assert found["LoRA", "MoSLoRA"].p == pytest.approx(3 * 2 / 2**6)
    assert found["LoRA", "frozen mixer"].p == 1.0
    text = table(made)
    assert "| LoRA | 6 | 52.5 ± 1.9 |" in text
    assert "| an option drawn | - | 25.0 | 25.0 | 33.3 | 25.0 | 50.0 | 50.0 | 50.0 | 25.0 | 35.4 | - |" in text
    assert "Of one core 1.5 h the trainings, 0.2 h the base." in text
    # 0.09 is not below 0.05: nothing is claimed.
    assert text.count("no difference that these seeds can show") == 3


def test_a_difference_is_said_only_where_the_test_finds_one() -> None:
    low = [50.0 + n for n in range(20)]
    made = study({"LoRA": low, "MoSLoRA": [value + 0.5 + value / 1000 for value in low]})
    (found,) = comparisons(made)
    assert found.p < 0.001
    assert "above in 20, below in 0 of 20 seeds" in found.said()
    assert found.said().endswith(": a difference.")


def test_methods_with_other_seeds_are_not_compared() -> None:
    assert comparisons(study({"LoRA": [1.0, 2.0], "MoSLoRA": [1.0, 2.0, 3.0]})) == []


def test_the_figure(tmp_path: Path) -> None:
    figure(study({"LoRA": [50.0, 52.0], "MoSLoRA": [51.0, 53.0]}), tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_whole_way_and_on_from_where_it_stopped(tmp_path: Path) -> None:
    base = standins.make_llama3(tmp_path / "base")
    command = [
        sys.executable, str(ROOT / "scripts" / "study_commonsense.py"), "-o", str(tmp_path / "out"),
        "--base", str(base), "--steps", "3", "--batch", "4", "--questions", "2", "--write", str(tmp_path / "docs"),
    ]  # fmt: skip
    for seeds, processes in (("1", "1"), ("2", "2")):
        subprocess.run(
            [*command, "--seeds", seeds, "--processes", processes], check=True, capture_output=True, text=True
        )
    made = json.loads((tmp_path / "docs" / "commonsense_study.json").read_text())
    assert {method: len(rows) for method, rows in made["scores"].items()} == {
        "base": 1, "LoRA": 2, "frozen mixer": 2, "MoSLoRA": 2,
    }  # fmt: skip
    facts = [json.loads(path.read_text()) for path in sorted((tmp_path / "out" / "train").glob("*/done.json"))]
    trained = {(fact["method"], fact["trained"]) for fact in facts}
    counts = dict(trained)
    layers = 2 * 5
    assert counts["LoRA"] == counts["frozen mixer"] == counts["MoSLoRA"] - layers * 8 * 8
    assert re.search(r"\| MoSLoRA \| 2 \|", (tmp_path / "docs" / "commonsense_study.md").read_text())
    assert (tmp_path / "docs" / "commonsense_study.png").is_file()
