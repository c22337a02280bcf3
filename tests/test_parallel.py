"""Work on several processes: its order, its faults, and how it starts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from moslora_xtuner.parallel import cores, in_order


class Slowly:
    """Squares, the first jobs taking longest."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def __call__(self, job: int) -> int:
        time.sleep(0.02 * (self.jobs - job) / self.jobs)
        if job < 0:
            raise ValueError(f"job {job}")
        return job * job


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("jobs", [0, 1, 2, 20])
def test_results_come_in_the_order_of_the_jobs(jobs: int, workers: int) -> None:
    make: Callable[[], Slowly] = partial(Slowly, max(jobs, 1))
    assert list(in_order(make, range(jobs), workers)) == [job * job for job in range(jobs)]


def test_jobs_are_read_as_they_are_needed() -> None:
    read = 0

    def jobs() -> object:
        nonlocal read
        for job in range(1000):
            read += 1
            yield job

    results = in_order(partial(Slowly, 1000), jobs(), 2)  # type: ignore[arg-type]
    assert next(results) == 0
    assert read < 20
    results.close()


def test_what_a_job_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="job -1"):
        list(in_order(partial(Slowly, 4), [1, 2, -1, 3], 2))


def test_cores_are_those_this_process_may_use() -> None:
    found = subprocess.run(
        ["taskset", "-c", "0", sys.executable, "-c", "from moslora_xtuner.parallel import cores; print(cores())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) == 1 <= cores()


SCRIPT = """
print("begun")
from moslora_xtuner.data.checking.check import check
from moslora_xtuner.data.checking.worker import Rules
from moslora_xtuner.data.reading.sources import open_sources
from pathlib import Path
sources = open_sources({source!r})
print(check(sources, Rules(tuple(sources), Path("."), decode=False), workers=2).records)
"""


@pytest.mark.parametrize("way", ["file", "typed"])
def test_a_script_without_a_guard_runs_once(way: str, tmp_path: Path) -> None:
    from bad_cases import sound, write

    source = write(tmp_path / "a.json", [sound(str(n)) for n in range(1300)])
    script = SCRIPT.format(source=str(source))
    (tmp_path / "mine.py").write_text(script)
    command = [sys.executable, str(tmp_path / "mine.py")] if way == "file" else [sys.executable, "-"]
    typed = None if way == "file" else script
    found = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60)
    assert (found.stdout.split(), found.returncode) == (["begun", "1300"], 0), found.stderr
