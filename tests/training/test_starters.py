"""Who started a training, and what becomes of it when they are gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moslora_xtuner.training.starters import parent_of, starters

WATCHED = """
import time
from moslora_xtuner.training.starters import end_with_starters, starters
print(len(starters()), flush=True)
end_with_starters()
time.sleep(60)
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Programs by the names of those that start trainings; each runs its words and waits."""
    for name in ("xtuner", "torchrun", "train.sh"):
        first = "#!/bin/bash" if name.endswith(".sh") else f"#!{sys.executable}"
        runs = '"$@"\nexit' if name.endswith(".sh") else "import subprocess, sys\nsubprocess.run(sys.argv[1:])"
        (tmp_path / name).write_text(f"{first}\n{runs}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(words: list[str]) -> subprocess.Popen[str]:
    # Not warm (tests/warm): then other processes would be the parents.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(words, text=True, env=environment, **both)


@pytest.mark.parametrize(
    ("names", "count"), [(["xtuner", "torchrun"], 2), (["train.sh", "torchrun"], 1), (["train.sh"], 0)]
)
def test_shells_and_schedulers_are_no_starters(programs: Path, names: list[str], count: int) -> None:
    words = [*(str(programs / name) for name in names), sys.executable, "-c", WATCHED]
    process = start(words)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{count}\n"
    process.kill()
    process.wait()


def test_killed_outright_the_first_takes_the_last_along(programs: Path) -> None:
    words = [str(programs / "xtuner"), str(programs / "torchrun"), sys.executable, "-c", WATCHED]
    process = start(words)
    assert process.stdout is not None
    process.stdout.readline()
    below = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _above(int(entry.name), process.pid)]
    assert len(below) == 2
    process.stdout.close()  # as that of a launcher which is gone: whoever still writes there gets a fault
    process.kill()
    deadline = time.monotonic() + 10
    while any(_lives(one) for one in below) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_lives(one) for one in below)


def _above(process: int, wanted: int) -> bool:
    at = parent_of(process)
    while at > 1 and at != wanted:
        at = parent_of(at)
    return at == wanted


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_this_process_has_parents() -> None:
    assert parent_of(os.getpid()) == os.getppid()
    assert parent_of(2**22 + 1) == 0
    assert starters(1) == []


def test_a_launch_loads_no_training_library() -> None:
    code = (
        "import sys, moslora_xtuner.training.launch; "
        "print(sorted({'mmengine', 'transformers', 'torch', 'xtuner'} & set(sys.modules)))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"
