"""A program that begins as a fork is the program that it would have been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from warm.forks import at_work

PROGRAM = Path(__file__).parent / "program.py"
COLD = {"MOSLORA_COLD_STARTS": "1"}
PATH = os.environ.get("PYTHONPATH", "")
pytestmark = pytest.mark.skipif(
    "MOSLORA_WARM_STARTS" not in os.environ, reason="cold starts: asked for, a GPU, no Linux"
)


def start(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **more.pop("env", {})}
    return subprocess.run(
        [sys.executable, str(PROGRAM), *words], env=environment, capture_output=True, text=True, check=False, **more
    )


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Libraries are there before the program's first line, or nothing here would be tested."""
    assert json.loads(start("facts").stdout)["imported"]
    assert not json.loads(start("facts", env=COLD).stdout)["imported"]


def test_it_has_the_same_arguments_folder_files_and_settings(tmp_path: Path) -> None:
    more: dict[str, Any] = {"cwd": tmp_path, "input": "given\n", "env": {"OWN": "é", "PYTHONPATH": f"/none:{PATH}"}}
    one = start("facts", "-x", "two words", "", **more)
    more["env"].update(COLD)
    other = start("facts", "-x", "two words", "", **more)
    assert (one.returncode, one.stderr) == (other.returncode, other.stderr) == (0, "")
    found, wanted = json.loads(one.stdout), json.loads(other.stdout)
    assert (found.pop("imported"), wanted.pop("imported")) == (True, False)
    assert found["environment"].pop("MOSLORA_COLD_STARTS", None) is None
    assert wanted["environment"].pop("MOSLORA_COLD_STARTS") == "1"
    for made in (found["environment"], wanted["environment"]):  # by a library, for what is started later
        for name in ("LD_LIBRARY_PATH", "TORCHINDUCTOR_CACHE_DIR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"):
            made.pop(name, None)
    assert found == wanted


@pytest.mark.parametrize("how", ["fine", "three", "words", "fault", "killed", "terminated"])
def test_it_ends_as_a_cold_one_ends(how: str) -> None:
    one, other = start("end", how), start("end", how, env=COLD)
    assert one.returncode == other.returncode
    assert one.stdout == other.stdout
    assert one.stderr.splitlines()[-1:] == other.stderr.splitlines()[-1:]  # a traceback has other frames above


def test_a_file_limit_and_another_thread_count_arrive(tmp_path: Path) -> None:
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1234, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    facts = json.loads(start("facts", preexec_fn=limited, env={"OMP_NUM_THREADS": "3"}).stdout)
    assert (facts["limit"], facts["threads"]) == (1234, 3)
    assert json.loads(start("facts").stdout)["limit"] != 1234


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that waits for a signal."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "wait", str(tmp_path / "there")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not (tmp_path / "there").exists():
        assert process.poll() is None
        time.sleep(0.01)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_arrives(number: signal.Signals, waiting: subprocess.Popen[str]) -> None:
    waiting.send_signal(number)
    out, _ = waiting.communicate(timeout=20)
    assert (out, waiting.returncode) == (f"got {number.value}\n", 40)


def test_a_kill_ends_it(waiting: subprocess.Popen[str]) -> None:
    fork = at_work(waiting.pid)
    assert fork != waiting.pid
    waiting.kill()
    waiting.communicate(timeout=20)
    assert waiting.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while Path(f"/proc/{fork}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_libraries_that_read_other_settings_are_imported_anew() -> None:
    assert not json.loads(start("facts", env={"HF_HUB_OFFLINE": "0"}).stdout)["imported"]
