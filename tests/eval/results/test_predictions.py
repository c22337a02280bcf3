"""The answer log: keyed, append-only, and whole again after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moslora_xtuner.errors import OutputError
from moslora_xtuner.eval.results.predictions import PredictionLog, key


def test_answers_come_back_by_index_and_key(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "p.jsonl")
    log.add([(1, "k", "A\n红"), (1_000_001, "k", "B")])
    log.close()
    again = PredictionLog(tmp_path / "p.jsonl")
    assert again.get("1", "k") == "A\n红"
    assert again.get(1_000_001, "k") == "B"
    assert again.get(1, "other") is None
    again.add([(1, "other", "C")])
    assert PredictionLog(tmp_path / "p.jsonl").get(1, "k") == "A\n红"


def test_a_torn_last_line_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    log = PredictionLog(path)
    log.add([(1, "k", "A"), (2, "k", "红色")])
    log.close()
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        torn = PredictionLog(path)
        assert torn.get(1, "k") == "A"
        assert torn.get(2, "k") is None
        torn.add([(2, "k", "红色")])
        torn.close()
        assert path.read_bytes() == whole


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("index,prediction\n1,A\n")
    with pytest.raises(OutputError, match="line 1"):
        PredictionLog(tmp_path / "p.jsonl")


def test_a_question_is_answered_once(tmp_path: Path) -> None:
    """A batch is asked as a whole: what was there already stays, and does not stand there twice."""
    log = PredictionLog(tmp_path / "p.jsonl")
    log.add([(1, "k", "A")])
    log.add([(1, "k", "another"), (2, "k", "B")])
    log.close()
    lines = (tmp_path / "p.jsonl").read_text()
    assert lines.count("\n") == 2
    assert PredictionLog(tmp_path / "p.jsonl").get(1, "k") == "A"
    (tmp_path / "p.jsonl").write_text(lines + lines)  # twice the same says nothing else
    assert PredictionLog(tmp_path / "p.jsonl").get(2, "k") == "B"
    for fault, said in (
        (lines.replace("A", "C"), "answered a second time"),
        ('{"index": 3, "key": "k"}\n', "KeyError"),
    ):
        (tmp_path / "p.jsonl").write_text(lines + fault)
        with pytest.raises(OutputError, match=f"line 3 .*{said}"):
            PredictionLog(tmp_path / "p.jsonl")


def test_answers_are_on_disk_before_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from moslora_xtuner.eval.results.predictions import PredictionLog\n"
        "log = PredictionLog(Path(sys.argv[1])); log.add([(i, 'k', 'A') for i in range(100)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "p.jsonl")], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    log = PredictionLog(tmp_path / "p.jsonl")
    assert all(log.get(i, "k") == "A" for i in range(100))


def test_the_key_keeps_its_parts_apart() -> None:
    assert key("ab", "c") != key("a", "bc")
