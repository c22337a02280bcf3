"""Scores through a judge: VLMEvalKit asks, a server on this machine answers, and hand-made sums come out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import Server, serving
from make_benchmarks_like import make_benchmarks

from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.judges.base import JudgeAway, VerdictLog
from moslora_xtuner.eval.judges.openai_judge import Judge
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.scoring.score import Place, Scored, score
from moslora_xtuner.eval.settings import Settings
from moslora_xtuner.eval.tasks import tables
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks") / "LMUData"
    make_benchmarks(folder)
    return folder


def rows_of(name: str, made: Path, log: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tables.build_dataset(BENCHMARKS[name], made, log).data.to_dict("records")
    return found


def judged(name: str, made: Path, folder: Path, server: Server, answers: list[str], **options: Any) -> Scored:
    benchmark, log = BENCHMARKS[name], folder / "log"
    dataset = tables.build_dataset(benchmark, made, log)
    judge = Judge("m", VerdictLog(folder / "verdicts.jsonl"), url=server.url, timeout=2, **{"retries": 2, **options})
    task = Task(benchmark, dataset, ask_all(benchmark, dataset, made, None))
    return score(task, answers, Place(folder / "vlmeval", "x", made, log), judge="m", verdicts=judge)


def test_mmvet_by_hand(made: Path, server: Server, tmp_path: Path) -> None:
    rows = rows_of("MMVet", made, tmp_path / "log")
    answers = [f"answer {place}" for place in range(len(rows))]
    grades = {place: (0.0, 0.5, 1.0, 0.25)[place % 4] for place in range(len(rows))}

    def grade(prompt: str) -> str:
        (place,) = [place for place in grades if prompt.rstrip().endswith(f"| answer {place} |")]
        return str(grades[place])

    server.says = grade
    found = judged("MMVet", made, tmp_path, server, answers)
    assert found.entry["overall"] == pytest.approx(100 * sum(grades.values()) / len(rows))
    # VLMEvalKit counts a question of one capability alone twice.
    with_ocr = [grades[place] for place, row in enumerate(rows) if "ocr" in row["category"]]
    with_ocr += [grades[place] for place, row in enumerate(rows) if row["category"] == "ocr"]
    assert found.entry["abilities"]["ocr"] == pytest.approx(100 * sum(with_ocr) / len(with_ocr))
    assert [outcome["score"] for outcome in found.outcomes] == list(grades.values())
    assert (found.entry["judge"], found.entry["parse_failures"]) == ("m", 0)


def test_mathvista_by_hand(made: Path, server: Server, tmp_path: Path) -> None:
    """Of 24 answers three are lists, which VLMEvalKit never takes for right."""
    key = json.loads((made / "key.json").read_text())["MathVista_MINI"]
    rows = rows_of("MathVista_MINI", made, tmp_path / "log")
    values = {f"the value is hidden {place}": key[str(row["index"])]["right_value"] for place, row in enumerate(rows)}
    server.says = lambda prompt: values[re.findall(r"the value is hidden \d+", prompt)[-1]]
    found = judged("MathVista_MINI", made, tmp_path, server, list(values))
    assert found.entry["overall"] == pytest.approx(100 * 21 / 24)
    assert found.hits == {
        str(row["index"]): float(not key[str(row["index"])].get("never_right", False)) for row in rows
    }


def test_choices_in_words_and_a_judge_that_cannot_be_read(made: Path, server: Server, tmp_path: Path) -> None:
    """A judge names the letter for the first half and babbles at the rest: no dice, and counted."""
    rows = rows_of("AI2D_TEST", made, tmp_path / "log")
    answers = [f"it is the one I mean, number {place}." for place in range(len(rows))]
    half = len(rows) // 2

    def verdict(prompt: str) -> str:
        (place,) = [place for place in range(len(rows)) if f"number {place}." in prompt]
        return str(rows[place]["answer"]) if place < half else "well, well"

    server.says = verdict
    found = judged("AI2D_TEST", made, tmp_path / "one", server, answers)
    assert found.entry["overall"] == pytest.approx(100 * half / len(rows))
    assert found.entry["judge_failures"] == len(rows) - half
    again = judged("AI2D_TEST", made, tmp_path / "two", server, answers)
    assert again.entry == found.entry


def test_faults_on_the_way_change_nothing(made: Path, server: Server, tmp_path: Path) -> None:
    rows = rows_of("MMVet", made, tmp_path / "log")
    kinds = ["429", "500", "nonsense", "half", "cut", "empty"]
    server.first_faults = {f"| a{place} |": kinds[place % len(kinds)] for place in range(len(rows))}
    server.says = lambda prompt: "0.5"
    found = judged("MMVet", made, tmp_path, server, [f"a{place}" for place in range(len(rows))], retries=4)
    assert found.entry["overall"] == pytest.approx(50)
    graded = [count for prompt, count in server.answered.items() if prompt.rstrip().endswith("|")]
    assert graded == [1] * len(rows)


@pytest.mark.slow
def test_each_benchmark_by_its_own_judge(made: Path, export: Path, server: Server, tmp_path: Path) -> None:
    """One command, two judges: each is asked its own benchmark alone, and once; TextVQA has none."""
    names = ["AI2D_TEST", "MMVet", "TextVQA_VAL"]
    with serving() as other:
        server.says, other.says = (lambda prompt: "A"), (lambda prompt: "0.25")
        words = [f"letters@{server.url}", f"MMVet=grades@{other.url}"]
        for _ in range(2):
            evaluate([export], names, made, tmp_path, Settings(judge=words, quiet=True))
            assert all("| " in prompt for prompt in other.requests)
            assert not any("Ground truth" in prompt for prompt in server.requests)
            unread = [prompt for prompt, count in server.requests.items() if count == 3]
            assert all("Options: A." not in prompt.rpartition("Question:")[2] for prompt in unread)
            assert {*server.requests.values(), *other.requests.values()} - {3 if unread else 1} <= {1}
    run = scores.read(tmp_path / "tiny")
    judges = {name: entry["judge"] for name, entry in run.benchmarks.items()}
    assert judges == {"AI2D_TEST": "letters", "MMVet": "grades", "TextVQA_VAL": None}
    assert run.benchmarks["MMVet"]["overall"] == pytest.approx(25)
    assert run.manifest.made.judge == ", ".join(words)


@pytest.mark.slow
def test_a_judge_that_is_away_leaves_a_gap_and_comes_back(
    made: Path, export: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)  # as often as ever, but sooner
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)
    names = ["MMVet", "TextVQA_VAL"]
    server.away, server.says = True, lambda prompt: "1.0"
    judge = f"m@{server.url}"
    with pytest.raises(JudgeAway, match="tiny: MMVet"):
        evaluate([export], names, made, tmp_path, Settings(judge=judge, quiet=True))
    run = scores.read(tmp_path / "tiny")
    assert set(run.benchmarks) == {"TextVQA_VAL"}
    assert run.manifest.unscored["MMVet"].startswith("judge unavailable")
    server.away = False
    evaluate([export], names, made, tmp_path, Settings(judge=judge, quiet=True))
    assert scores.read(tmp_path / "tiny").benchmarks["MMVet"]["overall"] == pytest.approx(100)
    answered = sum(server.answered.values())
    evaluate([export], names, made, tmp_path, Settings(judge=judge, quiet=True))
    assert sum(server.answered.values()) == answered
