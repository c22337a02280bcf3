"""A judge server with scripted faults: every reply comes in the end, none is lost, none asked for twice."""

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
from moslora_xtuner.eval.judges.base import Ask, JudgeAway, Refused, VerdictLog
from moslora_xtuner.eval.judges.openai_judge import STANDS_FOR, Judge, JudgeAddress
from moslora_xtuner.eval.openai_client import PLAIN

FAULTS = ("429", "500", "503", "slow", "nonsense", "half", "no choices", "cut", "nested")

PLAINLY = Ask()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def judge(server: Server, file: Path, **options: Any) -> Judge:
    return Judge("m", VerdictLog(file), url=server.url, **{"timeout": 0.4, "retries": 4, **options})


def said(mine: Judge, prompt: str, ask: Ask = PLAINLY) -> str:
    return mine.reply(prompt, ask).text


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_asked_again(server: Server, tmp_path: Path, fault: str) -> None:
    server.script["is it red?"] = [fault, fault]
    mine = judge(server, tmp_path / "verdicts.jsonl")
    assert said(mine, "is it red?") == "IS IT RED?"
    assert said(mine, "is it red?") == "IS IT RED?"
    assert server.requests["is it red?"] == 3
    assert server.answered["is it red?"] == 1


def test_many_at_once_with_faults_of_all_kinds(server: Server, tmp_path: Path) -> None:
    prompts = [f"question {n % 60}" for n in range(180)]
    for n in range(60):
        server.script[f"question {n}"] = [FAULTS[n % len(FAULTS)]] if n % 2 else []
    file = tmp_path / "deep" / "verdicts.jsonl"
    mine = judge(server, file)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda prompt: said(mine, prompt), prompts))
    assert found == [prompt.upper() for prompt in prompts]
    assert set(server.answered.values()) == {1}
    assert len(file.read_text().splitlines()) == 60
    # Another process, later: nobody is asked.
    before = server.requests.copy()
    later = judge(server, file)
    assert [said(later, prompt) for prompt in prompts] == found
    assert server.requests == before


def test_a_judge_that_stays_away_is_named_and_what_it_said_is_kept(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "verdicts.jsonl"
    mine = judge(server, file, retries=1)
    said(mine, "first")
    server.away = True
    with pytest.raises(JudgeAway, match=r"judge m at http://127\.0\.0\.1.*answered 503.*1 verdicts are kept"):
        said(mine, "second")
    assert said(mine, "first") == "FIRST"
    # A later process that needs nothing new needs no server, not even to know whose replies it has.
    later = judge(server, file, retries=0)
    assert said(later, "first") == "FIRST"
    assert later.departures == [f"{later.client.url} does not say now what it serves: taken for the judge of before"]
    server.away = False
    again = judge(server, file)
    assert [said(again, text) for text in ("first", "second")] == ["FIRST", "SECOND"]
    assert server.answered["first"] == 1


def test_a_reply_in_parts_is_one(server: Server, tmp_path: Path) -> None:
    server.script["x"] = ["list"]
    assert said(judge(server, tmp_path / "v.jsonl"), "x") == "1.0"


def test_nobody_at_the_address(tmp_path: Path) -> None:
    mine = Judge("m", VerdictLog(tmp_path / "v.jsonl"), url="http://127.0.0.1:9/v1", timeout=0.3, retries=0)
    with pytest.raises(JudgeAway, match="does not answer"):
        said(mine, "x")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("400", "answered 400 .later."),
        ("403", "answered 403"),
        ("500", "answered 500"),
        ("slow", "APITimeoutError"),
        ("nonsense", "could not be read"),
        ("nested", "could not be read"),
        ("empty", "its reply was empty"),
        ("null", "its reply was empty"),
    ],
)
def test_one_prompt_that_gets_no_reply_is_refused_and_costs_no_other(
    server: Server, tmp_path: Path, fault: str, why: str
) -> None:
    """Whatever the fault: the judge is there, which a plain question shows, so it is this prompt's."""
    server.script["bad"] = [fault] * 9
    mine = judge(server, tmp_path / "v.jsonl", retries=1)
    with pytest.raises(Refused, match=why) as refused:
        said(mine, "bad")
    assert refused.value.final == (fault in ("500", "slow", "nonsense", "nested"))  # repeated already
    assert said(mine, "good") == "GOOD"
    assert server.requests["bad"] == (2 if fault in ("500", "slow", "nonsense", "nested") else 1)
    mine.close()
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 1  # asked again by the next command


def test_a_judge_that_takes_no_prompt_at_all_is_away(server: Server, tmp_path: Path) -> None:
    server.refuses = lambda prompt: 401
    with pytest.raises(JudgeAway, match=r"answered 401 \(.*\)"):
        said(judge(server, tmp_path / "v.jsonl"), "x")


def test_a_limit_that_the_server_never_takes_is_left_out_and_said(server: Server, tmp_path: Path) -> None:
    server.refuses = lambda prompt: 400 * any("max_tokens" in body for body in server.bodies[prompt][-1:])
    mine = judge(server, tmp_path / "v.jsonl")
    assert [said(mine, text, Ask(max_tokens=2048)) for text in "xy"] == ["X", "Y"]
    assert server.requests == {"x": 2, "y": 1}
    assert mine.departures == [
        f"{mine.client.url} takes no prompt with VLMEvalKit's limit of 2048 tokens: asked without a limit"
    ]


def test_a_torn_line_is_asked_again_and_a_foreign_file_refused(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "v.jsonl"
    mine = judge(server, file)
    said(mine, "x")
    said(mine, "y")
    mine.close()
    file.write_bytes(file.read_bytes()[:-5])
    again = judge(server, file)
    assert [said(again, text) for text in "xy"] == ["X", "Y"]
    assert dict(server.answered) == {"x": 1, "y": 2}
    file.write_text('{"a": 1}\n')
    with pytest.raises(OutputError, match=r"line 1 is no verdict"):
        judge(server, file)


def test_the_same_model_elsewhere_keeps_its_replies_and_another_under_its_name_does_not(
    server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "v.jsonl"
    server.entry = {"root": "/models/one"}
    first = judge(server, file)
    said(first, "x")
    assert first.identity == "m, which is /models/one"
    with serving() as moved:
        moved.entry = {"root": "/models/one"}
        assert said(judge(moved, file), "x") == "X"
        assert not moved.requests
        moved.entry = {"root": "/models/two"}
        said(judge(moved, file), "x")
        moved.entry = {}  # it does not say: then it is the address that tells
        unnamed = judge(moved, file)
        said(unnamed, "x")
        assert unnamed.identity == f"m at {unnamed.client.url}"
        assert moved.requests["x"] == 2


def test_vlmevalkits_names_stand_for_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against VLMEvalKit's own table: what its build_judge would hand to the class that asks."""
    from vlmeval import api
    from vlmeval.dataset.utils import judge_util

    monkeypatch.delenv("LOCAL_LLM", raising=False)
    for name in ("OpenAIWrapper", "SiliconFlowAPI", "HFChatModel"):
        monkeypatch.setattr(api, name, lambda version, **_: version)
    assert {name: judge_util.build_judge(model=name) for name in STANDS_FOR} == STANDS_FOR
    lines = Path(str(judge_util.__file__)).read_text().partition("model_map = {")[2].partition("}")[0]
    assert lines.count(":") == len(STANDS_FOR)


def test_the_model_that_a_name_stands_for_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(name: str, at: str) -> tuple[Any, list[str]]:
        mine = Judge(name, VerdictLog(tmp_path / f"{at}.jsonl"), url=None if at == "base" else server.url, timeout=5)
        said(mine, at)
        return server.bodies[at][-1]["model"], mine.departures

    assert asked("gpt-4o-mini", "unlisted") == ("gpt-4o-mini-2024-07-18", [])
    server.models = ["gpt-4o-mini-2024-07-18", "gpt-4o-mini"]
    assert asked("gpt-4o-mini", "both") == ("gpt-4o-mini-2024-07-18", [])
    server.models = ["gpt-4o-mini"]
    model, (departure,) = asked("gpt-4o-mini", "itself")
    assert model == "gpt-4o-mini"
    assert "does not serve gpt-4o-mini-2024-07-18, for which gpt-4o-mini stands" in departure
    server.models = ["m"]
    monkeypatch.setenv("OPENAI_API_BASE", f"{server.url}/chat/completions")
    monkeypatch.setenv("LOCAL_LLM", "mine")
    model, (departure,) = asked("gpt-4-turbo", "base")
    assert model == "gpt-4-1106-preview"
    assert "LOCAL_LLM is set, for which VLMEvalKit would ask mine" in departure


def test_models_that_think_are_asked_as_vlmevalkit_asks_them(server: Server, tmp_path: Path) -> None:
    for name, expected in (
        ("gpt-5-mini", {"max_completion_tokens": 3}),
        ("org/o3", {"max_completion_tokens": 3}),
        ("demo1", {"max_tokens": 3, "temperature": 0.5}),
    ):
        said(Judge(name, VerdictLog(tmp_path / "v.jsonl"), url=server.url, timeout=5), name, Ask(0.5, 3))
        assert server.bodies[name] == [{"model": name} | expected]


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
        list(pool.map(lambda text: said(mine, text), [str(n) for n in range(12)]))
    assert (mine.workers, most) == (3, 3)


def test_patience_is_the_callers(server: Server, tmp_path: Path) -> None:
    server.script["x"] = ["slow"] * 9
    with pytest.raises(Refused, match="APITimeoutError"):
        said(judge(server, tmp_path / "v.jsonl", retries=0, timeout=0.2), "x")
    assert server.requests["x"] == 1
    assert server.asides[PLAIN] == 1
    assert said(judge(server, tmp_path / "v.jsonl", retries=0, timeout=5), "x") == "X"
    for wrong in ({"workers": 0}, {"retries": -1}, {"timeout": 0}):
        with pytest.raises(UsageError, match=f"{next(iter(wrong))}="):
            judge(server, tmp_path / "v.jsonl", **wrong)


def test_who_judges_and_where() -> None:
    assert JudgeAddress.read("gpt-4o-mini") == JudgeAddress("gpt-4o-mini", None)
    own = JudgeAddress.read("Qwen/Qwen2.5-72B@http://127.0.0.1:8000/v1")
    assert (own.model, own.url, own.file_name) == (
        "Qwen/Qwen2.5-72B", "http://127.0.0.1:8000/v1", "Qwen-Qwen2.5-72B",
    )  # fmt: skip
    assert len(JudgeAddress.read("n" * 300).file_name) == 60
    for wrong in ("", "@http://x", "name@", "name@localhost:8000"):
        with pytest.raises(UsageError, match="NAME@http"):
            JudgeAddress.read(wrong)
