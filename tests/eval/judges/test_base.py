"""Verdicts in a file: each asked for once, by any number of threads; what is torn or cannot be written says so."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moslora_xtuner.errors import OutputError
from moslora_xtuner.eval.judges.base import AnyJudge, VerdictLog, verdict_key


def test_each_is_asked_for_once_by_all_threads_together(tmp_path: Path) -> None:
    file = tmp_path / "new" / "v.jsonl"
    log, asked, lock = VerdictLog(file), [], threading.Lock()

    def verdict(key: str) -> str:
        def ask() -> str:
            with lock:
                asked.append(key)
            time.sleep(0.02)
            return f"{key}!"

        return log.once(key, ask)

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(verdict, [str(n % 10) for n in range(80)]))
    assert found == [f"{n % 10}!" for n in range(80)]
    assert sorted(asked) == [str(n) for n in range(10)]
    log.close()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["key"]: row["verdict"] for row in rows} == {str(n): f"{n}!" for n in range(10)}
    assert VerdictLog(file).once("3", lambda: pytest.fail("asked again")) == "3!"


def test_a_failure_reaches_all_who_wait_and_is_not_kept(tmp_path: Path) -> None:
    log, gate = VerdictLog(tmp_path / "v.jsonl"), threading.Event()

    def ask() -> str:
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
    assert log.once("k", lambda: "yes") == "yes"


def test_any_text_comes_back_as_it_was(tmp_path: Path) -> None:
    texts = ["", "line\nline\r\x0b\x1c\u2028", "“ja” 好 \U0001f600", "\ud800"]
    log = VerdictLog(tmp_path / "v.jsonl")
    for place, text in enumerate(texts):
        log.once(str(place), lambda text=text: text)
    log.close()
    assert list(VerdictLog(tmp_path / "v.jsonl").kept.values()) == texts


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = VerdictLog(tmp_path / "v.jsonl")
    log.once("a", lambda: "1")

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
        log.once("b", lambda: "2")
    assert "b" not in log.kept
    log.log._handle = sound
    log.once("c", lambda: "3")
    assert VerdictLog(tmp_path / "v.jsonl").kept == {"a": "1", "c": "3"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"v\.jsonl cannot be made"):
        VerdictLog(tmp_path / "file" / "v.jsonl").once("a", lambda: "1")


def test_a_judge_is_asked_by_text_or_by_messages(tmp_path: Path) -> None:
    class Echo(AnyJudge):
        def _ask(self, text: str, temperature: float, max_tokens: int | None) -> str:
            self.asked += 1
            return f"{text} {temperature} {max_tokens}"

    mine = Echo("echo", tmp_path / "v.jsonl", workers=1)
    messages = [{"type": "text", "value": "a"}, {"type": "text", "value": "b"}]
    assert mine.generate(messages, temperature=0.5, max_tokens=3, timeout=9) == "a\nb 0.5 3"
    assert mine.generate("a\nb", temperature=0.5, max_tokens=3) == "a\nb 0.5 3"
    assert mine.asked == 1
    assert list(mine.verdicts) == [verdict_key("echo", "a\nb", 0.5, 3)]
    mine.generate("a\nb")
    other = Echo("other", tmp_path / "v.jsonl", workers=1)
    other.generate("a\nb")
    assert (mine.asked, other.asked, mine.working()) == (2, 1, True)
