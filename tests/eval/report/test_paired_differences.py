"""Differences from the baseline: values, where there are none and why, in every format that prints them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from moslora_xtuner import cli
from moslora_xtuner.errors import UsageError
from moslora_xtuner.eval.report.score_table import table
from moslora_xtuner.eval.tasks.registry import GROUPS

NAME = "DigitsMMBench_EN"
DIGITS = GROUPS["digits"]


def make(
    root: Path,
    model: str,
    right: int,
    *,
    datasets: tuple[str, ...] = (NAME,),
    outcomes: bool = True,
    **entry: Any,
) -> Path:
    """A run on 100 units a benchmark, the first `right` of them right."""
    folder = root / model
    (folder / "outcomes").mkdir(parents=True)
    one = {"overall": float(right), "scale": 100.0, "judge": "exact_matching", **entry}
    (folder / "scores.json").write_text(json.dumps({"model": model, "benchmarks": dict.fromkeys(datasets, one)}))
    lines = [json.dumps({"unit": str(i), "score": float(i < right), "ability": ""}) + "\n" for i in range(100)]
    for name in datasets if outcomes else ():
        (folder / "outcomes" / f"{name}.jsonl").write_text("".join(lines))
    return folder


def rows(folders: list[Path], baseline: str = "base") -> dict[tuple[str, str], dict[str, Any]]:
    found = json.loads(table(folders, "json", baseline=baseline))["differences"]
    assert found["baseline"] == baseline
    return {(row["model"], row["dataset"]): row for row in found["rows"]}


def test_values_and_p(tmp_path: Path) -> None:
    runs = [make(tmp_path, "base", 60), make(tmp_path, "better", 80), make(tmp_path, "near", 61)]
    found = rows(runs)
    better = found["better", NAME]
    # 20 of 100 units changed, all for the better: 20 +- 1.96 x sqrt(0.2 x 0.8 / 100) x 100
    assert better["difference"] == pytest.approx(20.0)
    assert better["low"] == pytest.approx(20 - 7.84, abs=1.2)
    assert better["high"] == pytest.approx(20 + 7.84, abs=1.2)
    assert better["p"] < 0.001
    # One unit changed; a draw misses it with chance (99 / 100)^100 = 0.366, so p = 2 x 0.366
    assert found["near", NAME]["p"] == pytest.approx(2 * 0.99**100, abs=0.03)
    assert "base" not in {model for model, _ in found}


def test_a_mean_is_compared_where_both_have_one(tmp_path: Path) -> None:
    runs = [make(tmp_path, "base", 60, datasets=DIGITS), make(tmp_path, "better", 80, datasets=DIGITS)]
    mean = rows(runs)["better", "mean"]
    # four independent benchmarks: half the width of one
    assert mean["difference"] == pytest.approx(20.0)
    assert mean["high"] - mean["low"] == pytest.approx(7.84, abs=1.0)
    lacking = rows([make(tmp_path, "other", 60), runs[1]], "other")["better", "mean"]
    assert lacking["difference"] is None
    assert lacking["reason"] == "no mean of other: missing Digits-CN, Digits-MME, Digits-VQA"


def test_runs_that_cannot_be_compared_get_a_dash_and_the_reason(tmp_path: Path) -> None:
    runs = [make(tmp_path, "base", 60), make(tmp_path, "judged", 80, judge="gpt-4o-mini")]
    row = rows(runs)["judged", NAME]
    assert (row["difference"], "p" in row) == (None, False)
    text = table(runs, "markdown", baseline="base")
    assert "| Digits-EN | – |" in text
    assert "Digits-EN: judged: other judges (exact matching, no judge and gpt-4o-mini)." in text
    whole = [make(tmp_path, name, 60, datasets=DIGITS, judge=judge) for name, judge in (("a", None), ("b", "gpt-4"))]
    barred = rows(whole, "a")["b", "mean"]
    assert barred["reason"] == "not comparable on Digits-EN, Digits-CN, Digits-MME, Digits-VQA"


def test_scores_alone_give_a_difference_without_p(tmp_path: Path) -> None:
    runs = [make(tmp_path, "base", 60), make(tmp_path, "bare", 62, outcomes=False)]
    row = rows(runs)["bare", NAME]
    assert (row["difference"], "p" in row) == (pytest.approx(2.0), False)
    assert "no interval" in row["reason"]


@pytest.mark.parametrize("format", ["terminal", "markdown", "latex", "html"])
def test_printed_beneath_the_scores(format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make(tmp_path, "base", 60), make(tmp_path, "better", 80)]
    assert cli.run_app(["report", *map(str, runs), "--baseline", "base", "--format", format]) == 0
    text = capsys.readouterr().out
    assert "Difference from base" in text
    assert re.search(r"\+20\.0 \(\+1[23]\.0 to \+2[78]\.0\), p (<|&lt;) 0\.001", text)
    assert text.index("better") < text.index("Difference from base")


def test_csv_stays_one_table_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make(tmp_path, "base", 60), make(tmp_path, "better", 80)]
    assert cli.run_app(["report", *map(str, runs), "--baseline", "base", "--format", "csv"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3
    assert "other formats print the differences" in said.err
    with pytest.raises(UsageError, match="no run named 'x'"):
        table(runs, "csv", baseline="x")
