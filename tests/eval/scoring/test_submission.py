"""A test set whose answers are held back: a file to hand in, no score, and the dev set's score beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pytest
from small_tables import MCQ, circular_rows, write_tsv

from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, dev_of

TEST, DEV = "MMBench_TEST_EN", "MMBench_DEV_EN"


def table(path: Path, split: str, *, answers: bool) -> list[dict[str, Any]]:
    rows = [{**row, "split": split} for row in circular_rows()]
    write_tsv(path, rows if answers else [{k: v for k, v in row.items() if k != "answer"} for row in rows])
    return rows


def test_the_file_to_hand_in_and_the_dev_score(export: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = table(tmp_path / f"{TEST}.tsv", "test", answers=False)
    table(tmp_path / f"{DEV}.tsv", "dev", answers=True)
    (run,) = evaluate([export], [TEST], tmp_path, tmp_path / "runs")
    file = run / "submission" / f"tiny_{TEST}.xlsx"
    assert f"{TEST} has no answers to score by: submit {file}" in capfd.readouterr().err
    handed_in = pandas.read_excel(file, keep_default_na=False)
    assert list(handed_in["index"]) == [row["index"] for row in rows]
    assert {"question", "A", "B", "C", "D", "prediction"} <= set(handed_in)
    assert not {"answer", "image"} & set(handed_in)
    found = scores.read(run)
    assert set(found.benchmarks) == {DEV}
    assert found.benchmarks[DEV]["units"] == len(MCQ)
    assert found.manifest.unscored == {
        TEST: f"no answers in the table: submission/tiny_{TEST}.xlsx is to be submitted ({TEST}.tsv)"
    }


def test_without_the_dev_set_there_is_no_score_and_it_is_said(
    export: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path / f"{TEST}.tsv", "test", answers=False)
    (run,) = evaluate([export], [TEST], tmp_path, tmp_path / "runs")
    assert f"{DEV}.tsv is not there" in capfd.readouterr().err
    assert scores.read(run).benchmarks == {}


def test_answers_that_are_missing_or_no_option_are_counted(
    export: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = table(tmp_path / f"{DEV}.tsv", "dev", answers=True)
    rows[4]["answer"] = None
    rows[0]["answer"] = "Q"
    write_tsv(tmp_path / f"{DEV}.tsv", rows)
    (run,) = evaluate([export], [DEV], tmp_path, tmp_path / "runs")
    assert scores.read(run).benchmarks[DEV]["unanswerable"] == 2
    said = capfd.readouterr().err
    assert f"{DEV}: 2 questions to which no answer can be right count as wrong" in said
    assert f"{DEV}: index 1, answer: 'Q' is none of A, B: no answer is ever right" in said
    assert f"{DEV}: index 2000002, answer: no answer: no answer is ever right" in said


def test_dev_sets_of_test_sets() -> None:
    found = {name: dev.dataset for name, item in BENCHMARKS.items() if (dev := dev_of(item)) is not None}
    first = {TEST: DEV, "MMBench_TEST_CN": "MMBench_DEV_CN"}
    assert found == first | {f"{test}_V11": f"{dev}_V11" for test, dev in first.items()}
