"""Verdicts in a file: each asked for once, by any number of threads; what is torn or cannot be written says so."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moslora_xtuner.errors import OutputError
from moslora_xtuner.eval.judges.base import AnyJudge, Ask, Reply, VerdictLog, verdict_key


def test_each_is_asked_for_once_by_all_threads_together(tmp_path: Path) -> None:
    file = tmp_path / "new" / "v.jsonl"
    log, asked, lock = VerdictLog(file), [], threading.Lock()

    def verdict(key: str) -> str:
        def ask() -> Reply:
            with lock:
                asked.append(key)
            time.sleep(0.02)
            return Reply(f"{key}!", cut=key == "3")

        return log.once(key, ask).text

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(verdict, [str(n % 10) for n in range(80)]))
    assert found == [f"{n % 10}!" for n in range(80)]
    assert sorted(asked) == [str(n) for n in range(10)]
    log.close()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["key"]: row["verdict"] for row in rows} == {str(n): f"{n}!" for n in range(10)}
    assert VerdictLog(file).once("3", lambda: pytest.fail("asked again")) == Reply("3!", cut=True)


def test_a_failure_reaches_all_who_wait_and_is_not_kept(tmp_path: Path) -> None:
    log, gate = VerdictLog(tmp_path / "v.jsonl"), threading.Event()

    def ask() -> Reply:
        gate.wait(5)
        raise ValueError("no")

    with ThreadPoolExecutor(3) as pool:
        both = [pool.submit(log.once, "k", ask) for _ in range(3)]
        while "k" not in log.under_way:
            time.sleep(0.01)
        gate.set()
        for one in both:
            with pytest.raises(ValueError, match="no"):
                one.result(5)
    assert not (tmp_path / "v.jsonl").exists()
    assert log.once("k", lambda: Reply("yes")) == Reply("yes")


def test_any_text_comes_back_as_it_was(tmp_path: Path) -> None:
    texts = ["", "line\nline\r\x0b\x1c\u2028", "“ja” 好 \U0001f600", "\ud800"]
    log = VerdictLog(tmp_path / "v.jsonl")
    for place, text in enumerate(texts):
        log.once(str(place), lambda text=text: Reply(text))
    log.close()
    assert [reply.text for reply in VerdictLog(tmp_path / "v.jsonl").kept.values()] == texts


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = VerdictLog(tmp_path / "v.jsonl")
    log.once("a", lambda: Reply("1"))

    class Full:
        """A file on a disk that takes five bytes more."""

        def __init__(self, handle: object) -> None:
            self.handle = handle

        def write(self, line: bytes) -> int:
            return int(self.handle.write(line[:5]))  # type: ignore[attr-defined]

        def __getattr__(self, name: str) -> object:
            return getattr(self.handle, name)

    sound, log.log._handle = log.log._handle, Full(log.log._handle)  # type: ignore[assignment]
    with pytest.raises(OutputError, match=r"no space left for .*v\.jsonl.*the verdicts in the file are kept"):
        log.once("b", lambda: Reply("2"))
    assert "b" not in log.kept
    log.log._handle = sound
    with pytest.raises(OutputError, match="no space left"):  # what it would say could not be kept either
        log.once("c", lambda: pytest.fail("asked"))
    assert log.once("a", lambda: pytest.fail("asked")) == Reply("1")
    VerdictLog(tmp_path / "v.jsonl").once("c", lambda: Reply("3"))
    assert VerdictLog(tmp_path / "v.jsonl").kept == {"a": Reply("1"), "c": Reply("3")}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"v\.jsonl cannot be made"):
        VerdictLog(tmp_path / "file" / "v.jsonl").once("a", lambda: Reply("1"))


class Echo(AnyJudge):
    """Replies with what it was asked."""

    identity, address = "echo", "the echo here"

    def _ask(self, text: str, ask: Ask) -> Reply:
        self.asked += 1
        return Reply(f"{text} {ask.temperature} {ask.max_tokens} {ask.attempt}")


class Other(Echo):
    identity = "other"


def test_a_reply_belongs_to_all_that_it_depends_on(tmp_path: Path) -> None:
    keys = {
        verdict_key(judge, prompt, Ask(temperature, most, attempt))
        for judge in "ab" for prompt in "xy" for temperature in (0, 0.5) for most in (None, 3) for attempt in (0, 1)
    }  # fmt: skip
    assert len(keys) == 32
    log = VerdictLog(tmp_path / "v.jsonl")
    mine, other = Echo(log, workers=1), Other(log, workers=1)
    for _ in range(2):
        assert mine.reply("a", Ask(0.5, 3, 1)).text == "a 0.5 3 1"
        assert mine.reply("a", Ask()).text == "a 0.0 None 0"
        other.reply("a", Ask())
    assert (mine.asked, other.asked) == (2, 1)
    log.close()
    assert VerdictLog(tmp_path / "v.jsonl").judges == {"the echo here": "other"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"key": "k", "verdict": null}', "line 2 is no verdict of this program .verdict is None, no text"),
        ('{"key": "a", "verdict": "2"}', "line 2 .*a second, other one stands under the key a"),
        ("[" * 100_000, "line 2 .*nested too deep"),
        ("[1]", "line 2 is no verdict"),
        ('{"key": "k"}', "line 2 .*KeyError: 'verdict'"),
    ],
)
def test_a_line_that_is_no_reply_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "v.jsonl").write_text(f'{{"key": "a", "verdict": "1"}}\n{line}\n')
    with pytest.raises(OutputError, match=said):
        VerdictLog(tmp_path / "v.jsonl")
    (tmp_path / "v.jsonl").write_text('{"key": "a", "verdict": "1"}\n' * 2)
    assert VerdictLog(tmp_path / "v.jsonl").kept == {"a": Reply("1")}
