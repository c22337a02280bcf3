"""`moslora eval`, killed again and again and started with another number of processes each time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from places import python_path

from moslora_xtuner.eval.results import scores

KILLS = int(os.environ.get("MOSLORA_KILLS", "2"))
"""Moments at which the evaluation is killed; 30 take about eight minutes."""
BATCH = 4
COUNTING = """
import os
from moslora_xtuner.eval.models.llava import LlavaAnswerer

answer = LlavaAnswerer.answer_batch

def counting(self, questions):
    handle = os.open(os.environ["COUNTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, b"x" * len(questions))
    os.close(handle)
    return answer(self, questions)

LlavaAnswerer.answer_batch = counting
"""
TABLES = ("DigitsMMBench_EN", "DigitsMMBench_CN", "DigitsMME", "DigitsTextVQA")


@pytest.mark.slow
def test_killed_at_random_moments(new_export: Callable[..., Path], large_data_root: Path, tmp_path: Path) -> None:
    """The same scores as a run that nobody killed, and no more than the batches under way asked again."""
    (tmp_path / "sitecustomize.py").write_text(COUNTING)
    export = new_export(tmp_path / "model", name="tiny")
    whole = evaluation(export, large_data_root, tmp_path / "whole", tmp_path, processes=1)
    assert whole.wait() == 0
    questions = asked(tmp_path, "whole")
    one = scores.read(tmp_path / "whole" / "tiny")
    assert questions >= sum(len(answers(tmp_path / "whole", table)) for table in TABLES) > 0  # they are counted
    chance = random.Random(int(os.environ.get("MOSLORA_SEED", "0")))
    allowed, processes, longest, hit = 0, 2, 14.0, 0
    for number in range(KILLS):
        started, before = time.monotonic(), asked(tmp_path, "killed")
        run = evaluation(export, large_data_root, tmp_path / "killed", tmp_path, processes=processes)
        if number % 3:  # while it answers
            while asked(tmp_path, "killed") == before and run.poll() is None:
                time.sleep(0.005)
            moment = time.monotonic() + chance.uniform(0, 0.5)
        else:  # at any moment, from its start to the scoring
            moment = started + chance.uniform(0, longest)
        while time.monotonic() < moment and run.poll() is None:
            time.sleep(0.005)
        hit += run.poll() is None and asked(tmp_path, "killed") > before
        if run.poll() is None:
            os.kill(run.pid, signal.SIGKILL)
            allowed += processes * BATCH
        else:
            assert run.returncode == 0
            longest = max(4.0, time.monotonic() - started)
        run.wait()
        processes = chance.choice([count for count in (1, 2, 3) if count != processes])
    last = evaluation(export, large_data_root, tmp_path / "killed", tmp_path, processes=processes)
    assert last.wait() == 0
    repeated = asked(tmp_path, "killed") - questions
    print(f"{KILLS} kills, {hit} while it answered: {repeated} of {questions} questions asked twice, {allowed} allowed")
    assert 0 <= repeated <= allowed
    assert scores.read(tmp_path / "killed" / "tiny").benchmarks == one.benchmarks
    for table in TABLES:
        assert answers(tmp_path / "whole", table) == answers(tmp_path / "killed", table)


def evaluation(export: Path, data_root: Path, out: Path, here: Path, *, processes: int) -> subprocess.Popen[bytes]:
    """The command, as it is typed."""
    words = ["eval", str(export), "--benchmarks", ",".join(TABLES), "--data-root", str(data_root), "-o", str(out)]
    words += ["--batch-size", str(BATCH), "--processes", str(processes)]
    environment = {**os.environ, "PYTHONPATH": python_path(here), "COUNTED": str(here / f"{out.name}.count")}
    with (here / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "moslora_xtuner", *words], env=environment, stdout=log, stderr=log
        )


def asked(here: Path, name: str) -> int:
    """How many questions models were asked under that name."""
    file = here / f"{name}.count"
    return file.stat().st_size if file.exists() else 0


def answers(out: Path, table: str) -> dict[str, str]:
    """The stored answers by index."""
    lines = (out / "tiny" / "predictions" / f"{table}.jsonl").read_text().splitlines()
    return {record["index"]: record["prediction"] for record in map(json.loads, lines)}
