"""A model's server and a judge with every fault: the run ends, is complete, and the next one asks what is missing."""

from __future__ import annotations

import ctypes
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import Server, serving
from small_tables import png64, write_tsv

from moslora_xtuner.errors import DiskFull, EvaluationError, UsageError
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.judges.base import JudgeAway
from moslora_xtuner.eval.report.page import table, write_report
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.settings import Settings

MME, VQA, MCQ = "DigitsMME", "DigitsTextVQA", "DigitsMMBench_EN"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def judge() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as ever, but sooner."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)


def mmvet(folder: Path, answers: int) -> Path:
    rows = [
        {"index": f"v1_{number}", "image": png64(number), "question": f"Q{number}?", "answer": f"right {number}",
         "category": "rec,ocr,know,gen,spat,math"}
        for number in range(answers)
    ]  # fmt: skip
    write_tsv(folder / "MMVet.tsv", rows)
    return folder


def mathvista(folder: Path, kinds: dict[str, tuple[str, str]]) -> Path:
    """One question for each: an answer's type, and the answer."""
    rows = [
        {"index": str(number), "image": png64(number), "question": f"M{number}?", "answer": answer, "task": "counting",
         "question_type": "free_form", "answer_type": kind, "skills": "['sums']", "choices": "", "answer_option": ""}
        for number, (kind, answer) in enumerate(kinds.values())
    ]  # fmt: skip
    write_tsv(folder / "MathVista_MINI.tsv", rows)
    return folder


# What the judge says of an answer: its worth by hand, or None where that is no verdict; whether it was a reply at all.
GRADES: dict[str, tuple[float | None, bool]] = {
    "1.0": (1.0, True),
    "0.5 because one of two is there": (0.5, True),
    "0,5": (0.5, True),
    "0.25": (0.25, True),
    "nan": (None, True),
    "I can't grade pictures of people.": (None, True),
    "1.2": (None, True),
    "well, well": (None, True),
    "": (None, False),
    "HTTP 400": (None, False),
    "HTTP 500": (None, False),
    "0.5\x00\ud800": (0.5, True),
}


def test_a_judge_with_every_fault(server: Server, judge: Server, tmp_path: Path, capfd: Any) -> None:
    words = list(GRADES)
    server.says = lambda prompt: f"mine to {prompt}"

    def about(prompt: str) -> str:
        """What is to be said of the answer that a prompt of MM-Vet's ends with."""
        return words[int(re.findall(r"mine to Q(\d+)\?", prompt)[-1])]

    judge.says = about
    judge.refuses = lambda prompt: int(about(prompt)[5:]) if "mine" in prompt and "HTTP" in about(prompt) else 0
    root = mmvet(tmp_path, len(words))
    out, settings = tmp_path / "out", Settings(judge=f"m@{judge.url}", judge_retries=1)

    def run() -> dict[str, Any]:
        (folder,) = evaluate([f"openai:{server.url}"], ["MMVet"], root, out, settings)
        return scores.read(folder).benchmarks["MMVet"]

    entry = run()
    by_hand = [worth or 0.0 for worth, _ in GRADES.values()]
    assert entry["overall"] == pytest.approx(100 * sum(by_hand) / len(by_hand))
    unread = {f"v1_{place}" for place, (worth, _) in enumerate(GRADES.values()) if worth is None}
    assert entry["unread_verdicts"].keys() == unread
    assert entry["unread_verdicts"]["v1_9"].startswith("it answered 400")
    assert entry["unread_verdicts"]["v1_5"] == "a refusal"
    assert "7 verdicts of the judge cannot be read and count as wrong, among them v1_" in capfd.readouterr().err
    # Asked as VLMEvalKit asks MM-Vet's judge: 3 tokens, warmer each time; a refused prompt twice.
    asked = {about(prompt): bodies for prompt, bodies in judge.bodies.items() if "mine" in prompt}
    assert {body["max_tokens"] for bodies in asked.values() for body in bodies} == {3}
    assert [body["temperature"] for body in asked["well, well"]] == [0, 0.5, 1, 1.5, 2]
    assert [body["temperature"] for body in asked["1.0"]] == [0]
    assert len(asked["HTTP 400"]) == 2
    # The next command asks again for what got no reply, and nothing else; in the end all is there.
    before = judge.requests.copy()
    assert run() == entry
    new = {about(prompt) for prompt in judge.requests - before}
    assert new == {words for words, (_, reply) in GRADES.items() if not reply}
    judge.refuses, judge.says = (lambda prompt: 0), lambda prompt: about(prompt) if GRADES[about(prompt)][1] else "1.0"
    assert run()["unread_verdicts"].keys() == unread - {"v1_8", "v1_9", "v1_10"}
    before = judge.requests.copy()
    run()
    assert judge.requests == before


def test_mathvista_by_a_judge_who_writes_numbers_in_its_own_way(server: Server, judge: Server, tmp_path: Path) -> None:
    kinds = {
        "14.0": ("integer", "14"), "1,000": ("integer", "1000"), "$1.45": ("float", "1.45"), "13": ("integer", "14"),
        "nan": ("integer", "14"), "left": ("integer", "14"), "14.5": ("integer", "14"), "2": ("integer", "2"),
    }  # fmt: skip
    words = list(kinds)
    server.says = lambda prompt: f"my words, of {prompt}"
    judge.says = lambda prompt: words[int(re.findall(r"of M(\d+)\?", prompt)[-1])]
    root, settings = mathvista(tmp_path, kinds), Settings(judge=f"m@{judge.url}", quiet=True)
    (folder,) = evaluate([f"openai:{server.url}"], ["MathVista_MINI"], root, tmp_path / "out", settings)
    entry = scores.read(folder).benchmarks["MathVista_MINI"]
    outcomes = [json.loads(line) for line in (folder / "outcomes" / "MathVista_MINI.jsonl").read_text().splitlines()]
    assert [item["score"] for item in outcomes] == [1, 1, 1, 0, 0, 0, 0, 1]
    assert entry["overall"] == pytest.approx(100 * 4 / 8)
    assert entry["unread_verdicts"] == {"4": "no number, 'nan'"}
    assert entry["parse_failures"] == 1
    asked = [body for prompt, bodies in judge.bodies.items() if "Extracted" in prompt for body in bodies]
    assert {body["max_tokens"] for body in asked} == {128}
    assert entry["judge_departures"] == [
        "VLMEvalKit's judge is gpt-4o-mini (gpt-4o-mini-2024-07-18), not m",
        "3 verdicts are read where VLMEvalKit reads nothing or another one (of question 0, 1, 2)",
    ]


def test_a_verdict_that_the_limit_cuts_is_asked_for_whole(server: Server, judge: Server, tmp_path: Path) -> None:
    """Three tokens of "Score: 0.9" are "Score: ", and of " 0.9" are " 0.", which VLMEvalKit takes for 0."""
    judge.tokens = True
    server.says = lambda prompt: f"mine to {prompt}"
    judge.says = lambda prompt: ["Score: 0.9", " 0.9", "0.9"][int(re.findall(r"mine to Q(\d+)", prompt)[-1])]
    root, settings = mmvet(tmp_path, 3), Settings(judge=f"m@{judge.url}", quiet=True)
    (folder,) = evaluate([f"openai:{server.url}"], ["MMVet"], root, tmp_path / "out", settings)
    entry = scores.read(folder).benchmarks["MMVet"]
    assert entry["overall"] == pytest.approx(90)
    assert sorted(judge.requests.values()) == [1, 2, 2]
    assert (
        "2 verdicts were cut off at 3 tokens and asked for with 64 (of question v1_0, v1_1)"
        in entry["judge_departures"]
    )


def test_a_judge_that_replies_to_nothing_is_no_judge(server: Server, judge: Server, tmp_path: Path) -> None:
    judge.says = lambda prompt: ""
    root, settings = mmvet(tmp_path, 3), Settings(judge=f"m@{judge.url}", quiet=True)
    with pytest.raises(JudgeAway, match="m: MMVet"):
        evaluate([f"openai:{server.url}"], ["MMVet"], root, tmp_path / "out", settings)
    run = scores.read(tmp_path / "out" / "m")
    assert "refused each of 3 prompts (its reply was empty)" in run.manifest.unscored["MMVet"]


def test_options_are_judged_with_vlmevalkits_limit_and_three_tries(
    server: Server, judge: Server, data_root: Path, tmp_path: Path
) -> None:
    server.says = lambda prompt: "hm"
    judge.says = lambda prompt: "I can't" if "digit is it" in prompt else "Z"
    settings = Settings(judge=f"m@{judge.url}", quiet=True)
    (folder,) = evaluate([f"openai:{server.url}"], [MCQ], data_root, tmp_path, settings)
    entry = scores.read(folder).benchmarks[MCQ]
    assert entry["unread_verdicts"] == dict.fromkeys(["4", "1000004", "2000004", "3000004"], "a refusal")
    counts = Counter(("digit is it" in prompt, count) for prompt, count in judge.requests.items())
    assert counts == {(True, 3): 4, (False, 1): 14}
    assert {(body["max_tokens"], body["temperature"]) for x in judge.bodies.values() for body in x} == {(2048, 0)}


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


def test_a_benchmark_that_fails_costs_only_itself(server: Server, data_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "lmu"
    root.mkdir()
    for name in (VQA, MCQ, MME):
        (root / f"{name}.tsv").write_bytes((data_root / f"{name}.tsv").read_bytes())
    # VLMEvalKit scores it, and the result is none of MME's.
    (root / f"{MME}.tsv").write_text((data_root / f"{MME}.tsv").read_text().replace("position", "positron"))
    spoilt = tmp_path / "out" / "m" / "predictions" / f"{VQA}.jsonl"
    word, settings = f"openai:{server.url}", Settings(quiet=True)
    with pytest.raises(EvaluationError, match=r"not scored: m, DigitsMME: .*positron .*\. All others are scored"):
        evaluate([word], [MME, VQA, MCQ], root, tmp_path / "out", settings)
    line = spoilt.read_text().splitlines(keepends=True)[0]
    for fault, said in (
        (json.dumps(json.loads(line) | {"prediction": None}), "line 5 .*prediction is None, no text"),
        (json.dumps(json.loads(line) | {"prediction": "other"}), "line 5 .*answered a second time"),
        ("[" * 100_000, "line 5 .*nested too deep"),
    ):
        sound = spoilt.read_text()
        spoilt.write_text(f"{sound}{fault}\n")
        with pytest.raises(EvaluationError, match=said) as raised:
            evaluate([word], [MME, VQA, MCQ], root, tmp_path / "out", settings)
        assert "\n" not in str(raised.value)
        spoilt.write_text(sound)
        run = scores.read(tmp_path / "out" / "m")
        assert set(run.benchmarks) == {MCQ}
        assert run.manifest.unscored.keys() == {MME, VQA}
        assert run.manifest.unscored[VQA].startswith("failed: ")
    report = write_report([run.folder], tmp_path / "report").read_text(encoding="utf-8")
    assert "not scored: failed:" in report
    evaluate([word], [VQA], root, tmp_path / "out", settings)
    assert set(scores.read(run.folder).benchmarks) == {MCQ, VQA}


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
