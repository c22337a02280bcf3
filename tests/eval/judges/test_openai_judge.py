"""A judge server with scripted faults: every verdict is right in the end, none is lost, none asked for twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from judge_server import Server, serving

from moslora_xtuner.errors import OutputError, UsageError
from moslora_xtuner.eval.judges.base import verdict_key
from moslora_xtuner.eval.judges.openai_judge import Judge, JudgeAddress, JudgeAway

FAULTS = ("429", "500", "503", "slow", "nonsense", "half", "empty", "no choices", "cut")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def judge(server: Server, file: Path, **options: Any) -> Judge:
    return Judge("m", file, url=server.url, **{"timeout": 0.4, "retries": 4, **options})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_asked_again(server: Server, tmp_path: Path, fault: str) -> None:
    server.script["is it red?"] = [fault, fault]
    mine = judge(server, tmp_path / "verdicts.jsonl")
    assert mine.generate("is it red?") == "IS IT RED?"
    assert mine.generate("is it red?") == "IS IT RED?"
    assert server.requests["is it red?"] == 3
    assert server.answered["is it red?"] == 1


def test_many_at_once_with_faults_of_all_kinds(server: Server, tmp_path: Path) -> None:
    prompts = [f"question {n % 60}" for n in range(180)]
    for n in range(60):
        server.script[f"question {n}"] = [FAULTS[n % len(FAULTS)]] if n % 2 else []
    file = tmp_path / "deep" / "verdicts.jsonl"
    mine = judge(server, file)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(mine.generate, prompts))
    assert found == [prompt.upper() for prompt in prompts]
    assert set(server.answered.values()) == {1}
    assert len(file.read_text().splitlines()) == 60
    # Another process, later: nobody is asked.
    before = server.requests.copy()
    assert [judge(server, file).generate(prompt) for prompt in prompts] == found
    assert server.requests == before


def test_a_judge_that_stays_away_is_named_and_what_it_said_is_kept(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "verdicts.jsonl"
    mine = judge(server, file, retries=1)
    mine.generate("first")
    server.away = True
    with pytest.raises(JudgeAway, match=r"judge m at http://127\.0\.0\.1.*answered 503.*1 verdicts are kept"):
        mine.generate("second")
    assert mine.working()  # told otherwise, VLMEvalKit would quietly do without
    assert mine.generate("first") == "FIRST"
    server.away = False
    again = judge(server, file)
    assert [again.generate(text) for text in ("first", "second")] == ["FIRST", "SECOND"]
    assert server.answered["first"] == 1


def test_nobody_at_the_address(tmp_path: Path) -> None:
    mine = Judge("m", tmp_path / "v.jsonl", url="http://127.0.0.1:9/v1", timeout=0.3, retries=0)
    with pytest.raises(JudgeAway, match="does not answer"):
        mine.generate("x")


def test_empty_answers_for_ever_are_no_verdict(server: Server, tmp_path: Path) -> None:
    server.script["x"] = ["empty"] * 9
    with pytest.raises(JudgeAway, match="answers were empty"):
        judge(server, tmp_path / "v.jsonl", retries=2).generate("x")
    assert not (tmp_path / "v.jsonl").exists()


def test_a_verdict_belongs_to_all_that_it_depends_on(server: Server, tmp_path: Path) -> None:
    keys = {verdict_key(m, p, t, n) for m in "ab" for p in "xy" for t in (0, 0.5) for n in (None, 3)}
    assert len(keys) == 16
    mine = judge(server, tmp_path / "v.jsonl")
    mine.generate("x")
    mine.generate("x", temperature=0.5)
    mine.generate([{"type": "text", "value": "x"}], max_tokens=3)
    assert server.answered["x"] == 3


def test_a_torn_line_is_asked_again_and_a_foreign_file_refused(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "v.jsonl"
    mine = judge(server, file)
    mine.generate("x")
    mine.generate("y")
    mine.close()
    file.write_bytes(file.read_bytes()[:-5])
    again = judge(server, file)
    assert [again.generate(text) for text in "xy"] == ["X", "Y"]
    assert dict(server.answered) == {"x": 1, "y": 2}
    file.write_text('{"a": 1}\n')
    with pytest.raises(OutputError, match=r"line 1 is no verdict"):
        judge(server, file)


def test_it_gets_no_more_requests_at_a_time_than_it_should(server: Server, tmp_path: Path) -> None:
    there, most, lock = 0, 0, threading.Lock()

    def says(prompt: str) -> str:
        nonlocal there, most
        with lock:
            there += 1
            most = max(most, there)
        time.sleep(0.05)
        with lock:
            there -= 1
        return prompt

    server.says = says
    mine = judge(server, tmp_path / "v.jsonl", workers=3, timeout=5)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(mine.generate, [str(n) for n in range(12)]))
    assert (mine.workers, most) == (3, 3)


def test_patience_is_the_callers(server: Server, tmp_path: Path) -> None:
    server.script["x"] = ["slow"] * 9
    with pytest.raises(JudgeAway, match="0 retries"):
        judge(server, tmp_path / "v.jsonl", retries=0, timeout=0.2).generate("x")
    assert server.requests["x"] == 1
    assert judge(server, tmp_path / "v.jsonl", retries=0, timeout=5).generate("x") == "X"
    for wrong in ({"workers": 0}, {"retries": -1}, {"timeout": 0}):
        with pytest.raises(UsageError, match=f"{next(iter(wrong))}="):
            judge(server, tmp_path / "v.jsonl", **wrong)


def test_who_judges_and_where() -> None:
    assert JudgeAddress.read("gpt-4o-mini") == JudgeAddress("gpt-4o-mini", None)
    own = JudgeAddress.read("Qwen/Qwen2.5-72B@http://127.0.0.1:8000/v1")
    assert (own.model, own.url, own.file_name) == (
        "Qwen/Qwen2.5-72B", "http://127.0.0.1:8000/v1", "Qwen-Qwen2.5-72B",
    )  # fmt: skip
    for wrong in ("", "@http://x", "name@", "name@localhost:8000"):
        with pytest.raises(UsageError, match="NAME@http"):
            JudgeAddress.read(wrong)
