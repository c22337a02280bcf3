"""Faults of a model's server, of files, of a disk: each costs itself, is named, and the next run goes on."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import Server, ask_again_sooner, serving
from small_tables import png64, write_tsv

from moslora_xtuner.errors import DiskFull, EvaluationError, UsageError
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.models.llava import LlavaAnswerer
from moslora_xtuner.eval.report.page import table
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.scoring import written
from moslora_xtuner.eval.settings import Settings

MME, VQA, MCQ = "DigitsMME", "DigitsTextVQA", "DigitsMMBench_EN"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_again_sooner(monkeypatch)


def test_a_question_that_the_server_will_not_answer_costs_itself(
    server: Server, data_root: Path, tmp_path: Path, capfd: Any
) -> None:
    """Refused, broken down by, answered in no JSON: the question counts as wrong, is named, and is asked again."""
    faults = {"Question 1?": "400", "Question 2?": "500", "Question 3?": "nested"}
    server.says = lambda prompt: "7"

    def run() -> scores.Run:
        for text, fault in faults.items():
            server.script[f"{text}\nAnswer the question using a single word or phrase."] = [fault] * 20
        return scores.read(evaluate([f"openai:{server.url}"], [VQA], data_root, tmp_path)[0])

    found = run()
    assert found.benchmarks[VQA]["overall"] == 25
    assert found.benchmarks[VQA]["unanswered"].keys() == {"1", "2", "3"}
    assert "3 questions got no answer and count as wrong, among them 1 (it answered 400" in capfd.readouterr().err
    assert "3 questions got no answer, counted as wrong: 1, 2, 3" in table([found.folder], "markdown")
    faults.clear()
    server.script.clear()
    before = server.requests.copy()
    assert "unanswered" not in run().benchmarks[VQA]
    assert sorted((server.requests - before).values()) == [1, 1, 1]
    server.refuses = lambda prompt: 400 * ("Question" in prompt)
    with pytest.raises(EvaluationError, match=r"answered none of 4 questions \(it answered 400"):
        evaluate([f"openai:{server.url}"], [VQA], data_root, tmp_path / "none", Settings(quiet=True))


def test_a_benchmark_that_fails_costs_only_itself(
    server: Server, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "lmu"
    root.mkdir()
    for name in (VQA, MCQ, MME):
        (root / f"{name}.tsv").write_bytes((data_root / f"{name}.tsv").read_bytes())
    stock = written.read

    def read(benchmark: Any, *given: Any) -> Any:
        """VLMEvalKit scores it, and the result is none of MME's."""
        if benchmark.dataset == MME:
            raise EvaluationError("positron is no subtask")
        return stock(benchmark, *given)

    monkeypatch.setattr(written, "read", read)
    spoilt = tmp_path / "out" / "m" / "predictions" / f"{VQA}.jsonl"
    word, settings = f"openai:{server.url}", Settings(quiet=True)
    with pytest.raises(EvaluationError, match=r"not scored: m, DigitsMME: .*positron .*\. All others are scored"):
        evaluate([word], [MME, VQA, MCQ], root, tmp_path / "out", settings)
    sound = spoilt.read_text()
    null = json.loads(sound.splitlines()[0]) | {"prediction": None}
    spoilt.write_text(f"{sound}{json.dumps(null)}\n")
    with pytest.raises(EvaluationError, match="prediction is None, no text") as raised:
        evaluate([word], [MME, VQA, MCQ], root, tmp_path / "out", settings)
    assert "\n" not in str(raised.value)
    run = scores.read(tmp_path / "out" / "m")
    assert set(run.benchmarks) == {MCQ}
    assert run.manifest.unscored.keys() == {MME, VQA}
    assert run.manifest.unscored[VQA].startswith("failed: ")
    assert "not scored: failed:" in table([run.folder], "markdown")
    spoilt.write_text(sound)
    evaluate([word], [VQA], root, tmp_path / "out", settings)
    assert set(scores.read(run.folder).benchmarks) == {MCQ, VQA}


def test_a_model_that_breaks_down_in_one_benchmark_answers_the_others(
    export: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With whatever error: its pool is made anew, the traceback is in the log, and the message is one line."""
    made: list[int] = []
    stock, start = LlavaAnswerer.answer_batch, LlavaAnswerer.__init__

    def answer(self: LlavaAnswerer, questions: Any) -> list[str]:
        if "Question" in questions[0].text:
            raise RuntimeError("device-side assert\ntriggered")
        return stock(self, questions)

    def begin(self: LlavaAnswerer, *given: Any, **options: Any) -> None:
        made.append(1)
        start(self, *given, **options)

    monkeypatch.setattr(LlavaAnswerer, "answer_batch", answer)
    monkeypatch.setattr(LlavaAnswerer, "__init__", begin)
    with pytest.raises(EvaluationError, match="not scored: tiny, DigitsTextVQA: RuntimeError: device-side assert trig"):
        evaluate([export], [VQA, MME], data_root, tmp_path, Settings(quiet=True))
    run = scores.read(tmp_path / "tiny")
    assert set(run.benchmarks) == {MME}
    assert "RuntimeError" in run.manifest.unscored[VQA]
    assert "in answer\n" in (run.folder / "vlmevalkit.log").read_text()
    assert len(made) == 2


def test_a_model_that_goes_away_leaves_the_scores_of_what_it_has_answered(
    server: Server, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(prompt: str) -> str:
        server.away = "Question" not in prompt
        return "7"

    server.says = says
    with pytest.raises(EvaluationError, match=r"DigitsMME: openai:m@.* does not answer.*DigitsMMBench_EN: .*does not"):
        evaluate([f"openai:{server.url}"], [VQA, MME, MCQ], data_root, tmp_path, Settings(batch_size=1, quiet=True))
    assert set(scores.read(tmp_path / "m").benchmarks) == {VQA}


def test_a_model_that_was_replaced_under_its_name_is_asked_everything(
    server: Server, data_root: Path, tmp_path: Path, capfd: Any
) -> None:
    def asked() -> tuple[int, str]:
        before = server.requests.total()
        evaluate([f"openai:{server.url}"], [VQA], data_root, tmp_path)
        return server.requests.total() - before, capfd.readouterr().err

    assert asked()[0] == 4
    assert asked() == (0, asked()[1])
    server.scene = "A garden."
    count, said = asked()
    assert count == 4
    assert "answer to a fixed prompt was 'A street.', is 'A garden.'): all is asked again" in said
    server.entry = {"root": "/models/b"}
    count, said = asked()
    assert count == 4
    assert "root was None, is '/models/b'" in said
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text())
    assert manifest["probe"]["answer"] == "A garden."
    server.entry = {}
    server.refuses = lambda prompt: 400 * prompt.startswith("Describe")
    asked()
    count, said = asked()
    assert count == 0
    assert "it cannot be known whether this is still the model that answered before" in said


def test_names_that_are_too_long_are_refused_before_anything_is_asked(
    server: Server, data_root: Path, tmp_path: Path
) -> None:
    word = f"openai:{server.url}"
    with pytest.raises(UsageError, match="has 300 bytes, a run folder's name 120 at most"):
        evaluate([word], [VQA], data_root, tmp_path / "out", names=["n" * 300])
    rows = [{"question": "Q?", "image": png64(1), "answer": "x"}]
    write_tsv(tmp_path / f"{'t' * 230}.tsv", rows)
    with pytest.raises(UsageError, match="255 at most: rename the table"):
        evaluate([word], [f"{tmp_path}/{'t' * 230}.tsv:short-answer"], None, tmp_path / "out")
    assert not server.requests
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that makes a file system of so many kilobytes."""
    libc, made = ctypes.CDLL(None, use_errno=True), []

    def make(kilobytes: int) -> Path:
        folder = tmp_path / f"disk {kilobytes}"
        folder.mkdir()
        if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={kilobytes}k".encode()):
            pytest.skip(f"this user cannot mount a file system: {os.strerror(ctypes.get_errno())}")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        libc.umount2(bytes(folder), 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of zips that cannot be closed
def test_a_disk_that_fills_while_scoring_is_our_error(
    server: Server, data_root: Path, small_disk: Callable[[int], Path]
) -> None:
    """At every size; in VLMEvalKit's pool of processes it would be a wait without end."""
    server.says = lambda prompt: "7"
    for kilobytes in (8, 28, 48):
        with pytest.raises(DiskFull, match="no space left for"):
            evaluate([f"openai:{server.url}"], [VQA, MME], data_root, small_disk(kilobytes), Settings(quiet=True))
    (folder,) = evaluate([f"openai:{server.url}"], [VQA, MME], data_root, small_disk(2000), Settings(quiet=True))
    assert set(scores.read(folder).benchmarks) == {VQA, MME}
