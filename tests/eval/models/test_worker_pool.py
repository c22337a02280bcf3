"""Several processes and one queue: nothing lost, nothing twice, whoever ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from moslora_xtuner.errors import DataError, EvaluationError
from moslora_xtuner.eval.models.worker_pool import TRIES, Answerer, Batch, InProcess, Processes
from moslora_xtuner.eval.tasks.prompts import Question

BATCHES = [[Question(f"{batch}.{row}", None) for row in range(3)] for batch in range(20)]
WANTED = {number: [question.text.upper() + "!" for question in batch] for number, batch in enumerate(BATCHES)}


class Shouting:
    """Says the question in capitals, notes who said it, and may be told to end with a certain question."""

    def __init__(self, notes: Path, number: int, count: int, deadly: str = "", lives: int = 0) -> None:
        self.notes, self.number, self.count, self.deadly, self.lives = notes, number, count, deadly, lives

    def answer_batch(self, questions: Batch, /) -> list[str]:
        with self.notes.open("a") as handle:
            handle.write(f"{self.number} {os.getpid()} {questions[0].text}\n")
        time.sleep(0.02)
        texts = [question.text for question in questions]
        if self.deadly in texts and self.notes.read_text().count(f" {self.deadly}\n") <= self.lives:
            os.kill(os.getpid(), signal.SIGKILL)
        if "bad" in texts:
            raise DataError("a bad picture")
        if "worse" in texts:
            raise KeyError("worse")
        return [text.upper() + "!" for text in texts]


def shouting(notes: Path, deadly: str, lives: int, number: int, count: int) -> Answerer:
    return Shouting(notes, number, count, deadly, lives)


def unfit(number: int, count: int) -> Answerer:
    raise EvaluationError(f"process {number} of {count} has no model")


def said(notes: Path) -> list[str]:
    return [line.split()[2] for line in notes.read_text().splitlines()]


def test_all_work_and_every_batch_is_answered_once(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    pool = Processes(partial(shouting, notes, "", 0), 3)
    try:
        assert dict(pool.run(BATCHES)) == WANTED
        assert len({line.split()[1] for line in notes.read_text().splitlines()}) == 3
        assert sorted(said(notes)) == sorted(batch[0].text for batch in BATCHES)
        assert dict(pool.run(BATCHES[:2])) == {number: WANTED[number] for number in (0, 1)}  # asked again, still there
    finally:
        pool.close()


def test_one_process_is_this_one(tmp_path: Path) -> None:
    pool = InProcess(partial(shouting, tmp_path / "notes", "", 0))
    assert dict(pool.run(BATCHES)) == WANTED
    assert {line.split()[1] for line in (tmp_path / "notes").read_text().splitlines()} == {str(os.getpid())}


def test_a_process_that_is_killed_costs_its_batch_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes"
    pool = Processes(partial(shouting, notes, "7.0", 1), 2)
    try:
        assert dict(pool.run(BATCHES)) == WANTED
    finally:
        pool.close()
    assert sorted(said(notes)) == sorted([*(batch[0].text for batch in BATCHES), "7.0"])
    assert "One of 2 processes has ended (signal 9)" in capfd.readouterr().err


def test_a_batch_that_ends_every_process_is_blamed(tmp_path: Path) -> None:
    pool = Processes(partial(shouting, tmp_path / "notes", "7.0", 99), TRIES + 1)
    try:
        with pytest.raises(EvaluationError, match="one batch of 3 questions has ended 3 processes"):
            list(pool.run(BATCHES))
    finally:
        pool.close()
    pool = Processes(partial(shouting, tmp_path / "notes", "7.0", 99), 1)
    try:
        with pytest.raises(EvaluationError, match="every process that answered has ended"):
            list(pool.run(BATCHES))
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("text", "kind", "message"), [("bad", DataError, "a bad picture"), ("worse", EvaluationError, "KeyError: 'worse'")]
)
def test_a_fault_comes_out_as_it_was(tmp_path: Path, text: str, kind: type[Exception], message: str) -> None:
    pool = Processes(partial(shouting, tmp_path / "notes", "", 0), 2)
    try:
        with pytest.raises(kind, match=message):
            list(pool.run([[Question(text, None)]]))
    finally:
        pool.close()


def test_a_model_that_cannot_be_loaded_is_said() -> None:
    pool = Processes(unfit, 2)
    try:
        with pytest.raises(EvaluationError, match=r"process \d of 2 has no model"):
            list(pool.run(BATCHES))
    finally:
        pool.close()


def test_no_process_outlives_the_main_one(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from functools import partial; from pathlib import Path\n"
        "from test_worker_pool import BATCHES, shouting; from moslora_xtuner.eval.models.worker_pool import Processes\n"
        "pool = Processes(partial(shouting, Path(sys.argv[1]), '', 0), 2)\n"
        "for _ in range(1000): list(pool.run(BATCHES))\n"
    )
    notes, here = tmp_path / "notes", str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": here}
    main = subprocess.Popen([sys.executable, "-c", program, str(notes), here], env=environment)
    deadline = time.monotonic() + 60
    while not notes.exists() or len({line.split()[1] for line in notes.read_text().splitlines()}) < 2:
        assert time.monotonic() < deadline, "the processes did not start"
        assert main.poll() is None
        time.sleep(0.1)
    workers = {int(line.split()[1]) for line in notes.read_text().splitlines() if len(line.split()) == 3}
    main.kill()
    main.wait()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a process is still there"
        time.sleep(0.1)
