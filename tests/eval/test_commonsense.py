"""The eight sets from LLM-Adapters' files to a report: asked, kept, scored, compared; Table 4 from bare scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import standins
from typer.testing import CliRunner

from moslora_xtuner.cli import app
from moslora_xtuner.data.worlds.writing import write_worlds
from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.models.causal_lm import CausalAnswerer
from moslora_xtuner.eval.report.page import write_report
from moslora_xtuner.eval.report.paper_table4 import TABLE4
from moslora_xtuner.eval.report.score_table import table
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.settings import Settings
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, GROUPS

PRINTED = """
LoRA              87.7 82.8 79.3 75.7 84.8 86.7 72.3 93.5 82.8
LoKr              89.2 81.8 78.7 76.7 82.1 81.6 65.1 92.0 80.9
LoHa              91.2 85.8 81.1 80.5 83.3 89.7 75.0 95.0 85.2
FLoRA             90.2 84.2 79.9 79.3 85.1 86.7 74.8 93.9 84.2
AdaLoRA           90.4 85.0 76.7 79.1 83.3 86.4 75.1 75.4 81.4
DoRA r16          90.1 87.2 80.3 79.1 84.7 88.8 74.5 95.5 85.0
DoRA r32          90.5 85.8 79.9 80.4 85.6 89.3 74.6 95.5 85.2
MoSLoRA (Kaiming) 90.5 86.8 81.0 81.5 85.8 89.7 74.6 95.0 85.6
"""
"""As printed in the paper, typed in here once more."""
ROWS = [re.split(r"\s{2,}| (?=\d+\.)", line.strip()) for line in PRINTED.strip().splitlines()]
QUIET = Settings(batch_size=16, limit=6, quiet=True)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standins.make_llama3(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_worlds(tmp_path_factory.mktemp("worlds") / "data", records=8, test_questions=6) / "LMUData"


def test_table_4_comes_out_of_bare_scores_files(tmp_path: Path) -> None:
    """The eight numbers of each row, and their mean: the printed one within what rounding cells and mean leaves."""
    for number, (name, *values) in enumerate(ROWS):
        entries = {
            dataset: {"overall": float(value), "scale": 100.0}
            for dataset, value in zip(GROUPS["commonsense"], values[:8], strict=True)
        }
        (tmp_path / str(number)).mkdir()
        bare = {"model": name, "benchmarks": entries}
        (tmp_path / str(number) / "scores.json").write_text(json.dumps(bare))
    folders = [tmp_path / str(number) for number in range(8)]
    lines = table(folders, "csv").splitlines()
    assert lines[0] == "model,ARC-e,OBQA,SIQA,ARC-c,WinoG,PIQA,BoolQ,HellaS,mean"
    for line, (name, *values) in zip(lines[1:], ROWS, strict=True):
        found = line.split(",")
        assert found[0] == name
        assert [float(cell) for cell in found[1:9]] == [float(value) for value in values[:8]]
        assert found[9] == f"{sum(map(float, values[:8])) / 8:.2f}"
        assert abs(float(found[9]) - float(values[8])) < 0.1
    both = table(folders, "markdown", paper=True)
    assert "For comparison: Table 4 as the paper prints it" in both
    assert "paper (printed): MoSLoRA (Kaiming) | 90.5 | 86.8 |" in both
    page = write_report(folders, tmp_path / "report").read_text()
    assert "Table 4 as the paper prints it" in page
    assert "Table 5" not in page


def test_the_printed_rows_are_the_papers() -> None:
    assert [(row.name, *(f"{value:.1f}" for value in (*row.values, row.mean))) for row in TABLE4] == [
        tuple(row) for row in ROWS
    ]


def test_asked_scored_and_continued(llama: Path, worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answer = CausalAnswerer.answer_batch

    def counting(self: CausalAnswerer, questions: Any) -> list[str]:
        asked.extend(question.text for question in questions)
        return answer(self, questions)

    monkeypatch.setattr(CausalAnswerer, "answer_batch", counting)
    first, second = GROUPS["small-worlds"][:2]
    (run,) = evaluate([llama], [first], worlds, tmp_path, QUIET, names=["a"])
    assert len(asked) == 6
    assert all(text.endswith("\n\n                ### Response:\n                ") for text in asked)
    evaluate([llama], [first, second], worlds, tmp_path, QUIET, names=["a"])
    assert len(asked) == 12  # those of the first are kept
    found = scores.read(run)
    assert list(found.benchmarks) == [first, second]
    entry = found.benchmarks[first]
    outcomes = [json.loads(line) for line in (run / "outcomes" / f"{first}.jsonl").read_text().splitlines()]
    assert entry["overall"] == pytest.approx(100 * sum(row["score"] for row in outcomes) / 6)
    assert (entry["questions"], entry["decoding"], entry["limit"]) == (6, "greedy", 6)
    assert found.manifest.datasets[first].made.decoding == "greedy"
    rows = [json.loads(line) for line in (run / "answers" / f"{first}.jsonl").read_text().splitlines()]
    assert all(row["answer"] in BENCHMARKS[first].labels for row in rows)
    assert not (run / "vlmeval").exists()


def test_beams_and_greedy_are_answers_of_their_own(llama: Path, worlds: Path, tmp_path: Path) -> None:
    """Both read one table; what is kept under one is never taken for the other's."""
    root = tmp_path / "LMUData"
    root.mkdir()
    (root / "boolq.tsv").write_bytes((worlds / "SmallWorlds_boolq.tsv").read_bytes())
    (run,) = evaluate([llama], ["boolq", "boolq_greedy"], root, tmp_path / "out", QUIET)
    kept = [
        {json.loads(line)["key"] for line in (run / "predictions" / f"{name}.jsonl").read_text().splitlines()}
        for name in ("boolq", "boolq_greedy")
    ]
    assert [len(keys) for keys in kept] == [6, 6]
    assert not kept[0] & kept[1]
    found = scores.read(run)
    assert [found.benchmarks[name]["decoding"] for name in ("boolq", "boolq_greedy")] == ["4 beams", "greedy"]


@pytest.mark.slow
def test_several_processes_answer_alike(llama: Path, worlds: Path, tmp_path: Path) -> None:
    names = list(GROUPS["small-worlds"][:3])
    answers = []
    for processes in (1, 2):
        settings = Settings(batch_size=3, processes=processes, quiet=True)
        (run,) = evaluate([llama], names, worlds, tmp_path / str(processes), settings)
        answers.append([(run / "answers" / f"{name}.jsonl").read_text() for name in names])
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index\tquestion\tanswer\n1\tQ\tyes\n", "index 1, answer: the answer 'yes' is none of true, false"),
        ("index\tquestion\tanswer\n1\tQ\ttrue\n1\tR\ttrue\n", "index 1, index: this index stands there twice"),
        ("index\tquestion\tanswer\n1\t\ttrue\n", "index 1, question: no question"),
        ("index\tquestion\n1\tQ\n", "has no column answer"),
        ("index\tquestion\tanswer\n", "holds no question"),
    ],
)
def test_a_table_that_cannot_be_asked_is_refused(llama: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "boolq.tsv").write_text(content)
    with pytest.raises(DataError, match=message):
        evaluate([llama], ["boolq"], tmp_path, tmp_path / "out", QUIET)


def test_a_missing_table_says_how_it_is_made(llama: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["eval", str(llama), "--benchmarks", "commonsense", "--data-root", str(tmp_path), "-o", str(tmp_path / "o")],
    )
    assert isinstance(result.exception, DataError)
    assert "moslora data commonsense DIR" in str(result.exception)
