"""DigitsVQA's tables as they are written, read and scored by VLMEvalKit's own classes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moslora_xtuner.eval.scoring.score import Place, Scored, score
from moslora_xtuner.eval.tasks import tables
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS

TABLES = ("DigitsMMBench_EN", "DigitsMMBench_CN", "DigitsMME", "DigitsTextVQA")


@pytest.fixture
def scored(tiny_data: Path, tmp_path: Path) -> Callable[[str, Callable[[dict[str, Any]], str]], Scored]:
    """Score `answer(row)` for every row of one of the tables."""

    def run(name: str, answer: Callable[[dict[str, Any]], str]) -> Scored:
        benchmark, root, log = BENCHMARKS[name], tiny_data / "LMUData", tmp_path / "log"
        dataset = tables.build_dataset(benchmark, root, log)
        asked = ask_all(benchmark, dataset, root, None)
        answers = [answer(dataset.data.iloc[item.place].to_dict()) for item in asked]
        return score(Task(benchmark, dataset, asked), answers, Place(tmp_path / "vlmeval", "m", root, log))

    return run


def right(row: dict[str, Any]) -> str:
    """What the table says; TextVQA's is a list of ten, as text."""
    answer = str(row["answer"])
    return str(ast.literal_eval(answer)[0]) if answer.startswith("[") else answer


@pytest.mark.parametrize("name", TABLES)
def test_right_answers_score_all_there_is(
    name: str, scored: Callable[[str, Callable[[dict[str, Any]], str]], Scored]
) -> None:
    entry = scored(name, right).entry
    assert entry["overall"] == entry["scale"]
    assert entry["parse_failures"] == 0
    if "MMBench" in name:
        assert entry["abilities"] == dict.fromkeys(("AR", "CP", "FP-C", "FP-S", "LR", "RR"), 100)
    if name == "DigitsMME":
        assert set(entry["abilities"].values()) == {200}
        assert (entry["perception"], entry["cognition"]) == (6 * 200, 2 * 200)


@pytest.mark.parametrize("name", ["DigitsMMBench_EN", "DigitsMMBench_CN"])
def test_always_the_first_letter_scores_nothing(
    name: str, scored: Callable[[str, Callable[[dict[str, Any]], str]], Scored]
) -> None:
    entry = scored(name, lambda row: "A").entry
    assert entry["overall"] == 0
    assert 0 < entry["vanilla"]["overall"] < 100


def test_always_yes_scores_half(scored: Callable[[str, Callable[[dict[str, Any]], str]], Scored]) -> None:
    entry = scored("DigitsMME", lambda row: "Yes").entry
    assert set(entry["abilities"].values()) == {50}  # half of the questions, no whole pair
