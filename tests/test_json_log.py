"""JSON lines that are only ever added to: torn, spoilt, full, and written by several at once."""

from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from moslora_xtuner.errors import OutputError
from moslora_xtuner.json_log import JsonLog


def rows(path: Path) -> list[Any]:
    return JsonLog(path, "answer").read(lambda row: row["n"])


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.jsonl"
    assert rows(path) == []
    log = JsonLog(path, "answer")
    log.add([{"n": 1}, {"n": "ü\u2028\x85"}])
    log.close()
    log.add([{"n": "\ud800"}])  # half of a pair, which UTF-8 cannot hold
    log.close()
    assert rows(path) == [1, "ü\u2028\x85", "\ud800"]


def test_a_torn_last_line_is_cut_off_and_a_spoilt_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2')
    assert rows(path) == [1]
    assert path.read_bytes() == b'{"n": 1}\n'
    for spoilt in (b'{"n": 2\n', b'{"m": 2}\n', b"[]\n", b"\xff\n"):
        path.write_bytes(b'{"n": 1}\n' + spoilt)
        with pytest.raises(OutputError, match=r"a\.jsonl, line 2 is no answer of this program"):
            rows(path)
        assert path.read_bytes() == b'{"n": 1}\n' + spoilt


def test_a_full_disk_leaves_whole_lines_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    log = JsonLog(path, "answer")
    log.add([{"n": 1}])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"no space left for .*a\.jsonl.*; the answers in the file are kept"):
            log.add([{"n": 2}, {"n": 3}])
    assert path.read_bytes() == b'{"n": 1}\n'
    log.add([{"n": 4}])
    assert rows(path) == [1, 4]


def test_several_may_add_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    logs = [JsonLog(path, "answer") for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: logs[n % 2].add([{"n": n, "text": "x" * 5000}]), range(200)))
    assert sorted(rows(path)) == list(range(200))
    assert all(json.loads(line)["text"] == "x" * 5000 for line in path.read_text().splitlines())
