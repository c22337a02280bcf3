"""A judge with every fault: the run ends, each verdict is read or named, and the next run asks what is missing."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import Server, ask_again_sooner, serving
from small_tables import png64, write_tsv

from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.judges.asking import GRADE, OPTION, YES_NO, Asking, Kind
from moslora_xtuner.eval.judges.base import AnyJudge, Ask, JudgeAway, Refused, Reply, VerdictLog
from moslora_xtuner.eval.judges.reading import FAILED
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.settings import Settings

MCQ = "DigitsMMBench_EN"


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
    ask_again_sooner(monkeypatch)


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
    root, settings = mmvet(tmp_path, 8), Settings(judge=f"m@{judge.url}", quiet=True)
    with pytest.raises(JudgeAway, match="m: MMVet"):
        evaluate([f"openai:{server.url}"], ["MMVet"], root, tmp_path / "out", settings)
    run = scores.read(tmp_path / "out" / "m")
    assert "refused each of 8 prompts (its reply was empty)" in run.manifest.unscored["MMVet"]
    (folder,) = evaluate([f"openai:{server.url}"], ["MMVet"], mmvet(tmp_path, 7), tmp_path / "few", settings)
    assert len(scores.read(folder).benchmarks["MMVet"]["unread_verdicts"]) == 7  # which may be chance


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


class Scripted(AnyJudge):
    """Says the next of its replies; the same each time where it cannot say another."""

    identity, address = "scripted", "the script"

    def __init__(self, log: VerdictLog, replies: list[Reply | Refused], repeats: bool) -> None:
        super().__init__(log, workers=1)
        self.replies, self.repeats, self.asks = replies, repeats, list[Ask]()

    def _ask(self, text: str, ask: Ask) -> Reply:
        self.asks.append(ask)
        found = self.replies.pop(0)
        if isinstance(found, Refused):
            raise found
        return found


@pytest.mark.parametrize(
    ("kind", "repeats", "replies", "told", "asks"),
    [
        (GRADE, True, [Reply("x"), Reply("0.5")], "0.5", [(0, 3, 0), (0.5, 3, 1)]),
        # A model on this machine says the same again, but may be let say more.
        (GRADE, False, [Reply("x")], FAILED, [(0, 3, 0)]),
        (GRADE, False, [Reply("0.", cut=True), Reply("0.9")], "0.9", [(0, 3, 0), (0, 64, 0)]),
        (GRADE, True, [Reply("The", cut=True), Refused("no"), Reply("1")], "1.0", [(0, 3, 0), (0, 64, 0), (0.5, 3, 1)]),
        (GRADE, True, [Refused("no"), Refused("no")], FAILED, [(0, 3, 0), (0.5, 3, 1)]),
        (GRADE, True, [Refused("no", final=True)], FAILED, [(0, 3, 0)]),
        (GRADE, True, [Refused("no"), Reply("1")], "1.0", [(0, 3, 0), (0.5, 3, 1)]),
        (YES_NO, True, [Reply("hm")] * 4 + [Reply("no")], "No", [(n / 2, 3, n) for n in range(5)]),
        (OPTION, True, [Reply("hm")] * 3, FAILED, [(0, 3, n) for n in range(3)]),
    ],
)
def test_a_verdict_is_asked_for_within_a_bound(
    kind: Kind,
    repeats: bool,
    replies: list[Reply | Refused],
    told: str,
    asks: list[tuple[float, int, int]],
    tmp_path: Path,
) -> None:
    judge = Scripted(VerdictLog(tmp_path / "v.jsonl"), list(replies), repeats)
    asking = Asking(judge, max_tokens=3)
    question = asking.about(kind, {"index": 7, "prediction": "p", "A": "one", "B": "two"})
    prompt = [{"type": "text", "value": "which?"}]
    assert {question.generate(prompt, temperature=n) for n in range(5)} == {told}  # VLMEvalKit's own loop around it
    assert judge.asks == [Ask(*ask) for ask in asks]
    assert not judge.replies
    assert set(asking.unread) == ({"7"} if told == FAILED else set())
    assert asking.working()
