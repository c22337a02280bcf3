"""Why a training ended, read from real tracebacks of real programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moslora_xtuner.training.endings import kills_for_memory, reason


def said_by(script: str) -> list[str]:
    """What a Python program that fails writes to its terminal."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode
    return done.stderr.splitlines(keepends=True)


def test_the_first_error_is_the_reason() -> None:
    lines = [
        "INFO: all good\n",
        "[rank0]: Traceback (most recent call last):\n",
        "[rank0]: moslora_xtuner.errors.DataError: no token store in x: make one\n",
        "[rank1]: RuntimeError: Connection closed by peer\n",
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n",
    ]
    assert reason(lines, 0) == "DataError: no token store in x: make one"
    chain = [
        "FileNotFoundError: store.json\n",
        "\n",
        "The above exception was the direct cause of the following exception:\n",
        "ValueError: no store\n",
        "RuntimeError: later\n",
    ]
    assert reason(chain, 0) == "ValueError: no store"
    assert reason(["KeyError: 'a'\n"], 1) == "KeyError: 'a'"
    assert reason(["fine\n"], 9) == "exit status 9 and no error in its last lines"
    assert reason([], 0).startswith("no error in its last lines: its process was killed from outside")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("AssertionError", "AssertionError, without a text, in load, <string>:2"),
        ("EOFError()", "EOFError, without a text, in load, <string>:2"),
        ("StopIteration", "StopIteration, without a text, in load, <string>:2"),
        ("ZeroDivisionError('by zero')", "ZeroDivisionError: by zero"),
        ("MemoryError", "MemoryError, without a text, in load, <string>:2: memory ran out: take a smaller"),
        ("__import__('zipfile').BadZipFile('no zip')", "zipfile.BadZipFile: no zip: a file of weights is damaged"),
        ("__import__('subprocess').TimeoutExpired('cc', 3)", "subprocess.TimeoutExpired: Command 'cc' timed out"),
        ("OSError(28, 'No space left on device')", "OSError: [Errno 28] No space left on device: make room, then"),
    ],
)
def test_every_kind_of_exception_is_named_also_without_a_text(raised: str, told: str) -> None:
    lines = ["11/28 10:00:00 - mmengine - INFO - begun\n", *said_by(f"def load():\n    raise {raised}\nload()")]
    for prefix in ("", "[rank1]: "):
        assert reason([prefix + line for line in lines], 1).startswith(told)


def test_of_a_chain_the_last_is_told_and_of_several_processes_the_first() -> None:
    script = "try:\n    int('x')\nexcept ValueError as fault:\n    raise LookupError('no number in it') from fault"
    later = said_by("raise RuntimeError('Connection closed by peer')")
    assert reason([*said_by(script), *later], 1) == "LookupError: no number in it"
    # two processes that write at once
    first = ["[rank0]: " + line for line in said_by("assert not 1")]
    second = ["[rank1]: " + line for line in said_by("raise RuntimeError('later')")]
    mixed = [line for pair in zip(first, second, strict=False) for line in pair]
    assert reason(mixed, 1).startswith("AssertionError, without a text, in <module>")


def test_an_error_in_the_middle_of_a_line_is_none() -> None:
    lines = ["  warnings.warn('ValueError: old')\n", "Warning\n", "Done\n", "Loading: ok\n"]
    assert reason(lines, 0).startswith("no error in its last lines")


@pytest.mark.parametrize(
    ("signal", "starved", "told"),
    [
        ("SIGKILL", False, "somebody ended it, or the machine ran out of memory"),
        ("SIGKILL", True, "the machine ran out of memory (take fewer"),
        ("SIGBUS", False, "/dev/shm is full"),
        ("SIGSEGV", False, "a library of it crashed"),
        ("SIGABRT", False, "a library of it crashed"),
    ],
)
def test_a_process_that_was_ended(signal: str, starved: bool, told: str) -> None:
    lines = [
        "[rank0]: RuntimeError: Connection reset\n",
        "  traceback : Signal 15 (SIGTERM) received by PID 6\n",
        f"  traceback : Signal 9 ({signal}) received by PID 7\n",
    ]
    assert reason(lines, 1, starved).startswith(f"a process was ended by {signal}: {told}")
    # one process, without torchrun, has nobody who tells
    assert reason(["step 1\n"], 0, starved=True).startswith("the kernel ended a process: the machine ran out of memory")


def test_the_kernels_count_is_read() -> None:
    lines = Path("/proc/vmstat").read_text().splitlines() if os.path.exists("/proc/vmstat") else []
    counted = [int(line.split()[1]) for line in lines if line.split()[0] == "oom_kill"]
    assert kills_for_memory() == (counted[0] if counted else 0)
