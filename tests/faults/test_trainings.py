"""Trainings that are stopped, killed, started twice or hang: the real program, two processes, ZeRO-2, dropout on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.faults.processes import named, ranks
from bench.faults.training import Training, losses, weights
from places import python_path
from safetensors.torch import load_file, save_file

from moslora_xtuner.training.artifacts import ADAPTERS, MANIFEST
from moslora_xtuner.training.checkpoints.mark import newest
from moslora_xtuner.training.run_folder import ASKED, is_held

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("MOSLORA_KILLS", "1"))
"""Random moments at which a launcher, torchrun or a rank is killed outright; 50 take about 20 minutes."""
STEPS = 36
Start = Callable[..., "Training"]


@pytest.fixture(scope="module")
def start(tiny_base: Path, tiny_data: Path) -> Start:
    variables = {"DIGITS_BASE": str(tiny_base), "DIGITS_DATA": str(tiny_data), "OMP_NUM_THREADS": "1"}

    def begin(folder: Path, *words: str, cold: bool = False, options: tuple[str, ...] = ()) -> Training:
        """`cold`: each process is the one that trains, and not one that waits for a warm one (tests/warm)."""
        return Training(folder, variables | {"PYTHONPATH": "" if cold else python_path()}, *words, options=options)

    return begin


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    status, said = start(folder).end()
    assert status == 0, said
    assert sorted(losses(folder)) == list(range(1, STEPS + 1))
    return folder


def test_asked_to_stop_it_saves_and_the_same_command_goes_on(start: Start, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = start(folder)
    first.until(lambda: len(losses(folder)) >= 3)
    first.process.send_signal(signal.SIGTERM)
    status, said = first.end()
    assert status == 128 + signal.SIGTERM, said
    assert "is saved: --resume auto goes on from there" in said
    assert not is_held(folder)
    step = int(newest(folder).path.stem.removeprefix("iter_"))  # type: ignore[union-attr]
    assert step % 2 == 0  # a whole step of the optimiser
    assert set(losses(folder)) == set(range(1, step + 1))
    status, said = start(folder).end()
    assert status == 4
    assert "holds an unfinished run" in said
    status, said = start(folder, "--resume", "auto", options=("optim_wrapper.optimizer.lr=0.5",)).end()
    assert status == 7
    assert "optim_wrapper.optimizer.lr was 0.002, is 0.5" in said
    status, said = start(folder, "--resume", "auto").end()
    assert status == 0, said
    assert losses(folder) == losses(whole)
    assert weights(folder) == weights(whole)
    assert len(list(folder.glob("iter_*.pth"))) == 2


def test_asked_twice_it_ends_at_once(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    training = start(folder, cold=True)
    training.until(lambda: len(losses(folder)) >= 1)
    os.kill(ranks(folder)[1], signal.SIGSTOP)  # the step in hand does not end
    training.process.send_signal(signal.SIGINT)
    training.until((folder / ASKED).exists)
    training.process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    status, said = training.end()
    assert status == 128 + signal.SIGINT, said
    assert "ended at once: --resume auto goes on" in said
    assert time.monotonic() - begun < 30
    assert ranks(folder) == []
    assert not is_held(folder)


def test_a_finished_run_is_not_lost(start: Start, whole: Path) -> None:
    before = weights(whole), (whole / ADAPTERS / MANIFEST).stat().st_mtime_ns
    for words, status in (((), 4), (("--resume", "auto"), 4), (("--overwrite", "--deepspeed", "no-such-kind"), 7)):
        found, said = start(whole, *words).end()
        assert found == status, said
        assert (weights(whole), (whole / ADAPTERS / MANIFEST).stat().st_mtime_ns) == before
    again = start(whole, "--overwrite", cold=True)
    again.until((whole / ".replaced").exists)
    again.process.kill()
    again.process.wait()
    deadline = time.monotonic() + 30
    while ranks(whole) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ranks(whole) == []
    assert (weights(whole), (whole / ADAPTERS / MANIFEST).stat().st_mtime_ns) == before


def test_killed_outright_nobody_is_left_and_it_goes_on_to_the_same_weights(
    start: Start, whole: Path, tmp_path: Path
) -> None:
    chance = random.Random(int(os.environ.get("MOSLORA_SEED", str(time.time_ns()))))
    for number in range(KILLS):
        folder = tmp_path / f"run{number}"
        training = start(folder, cold=True)
        training.until(lambda folder=folder: len(losses(folder)) >= 1)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 4))
        kind = chance.choice(["launcher", "torchrun", "rank"])
        chosen = {"launcher": [training.process.pid], "torchrun": named(folder, b"torchrun"), "rank": ranks(folder)}
        if training.process.poll() is None and chosen[kind]:
            os.kill(chance.choice(chosen[kind]), signal.SIGKILL)
        status, _ = training.end()
        finished = status == 0
        deadline = time.monotonic() + 60
        while ranks(folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert ranks(folder) == [], kind
        if not finished and not (folder / ADAPTERS / MANIFEST).exists():
            status, said = start(folder, "--resume", "auto").end()
            assert status == 0, said
        assert weights(folder) == weights(whole), kind
        assert losses(folder) == losses(whole), kind


def test_a_rate_that_is_far_too_high_leaves_no_adapters(start: Start, tmp_path: Path) -> None:
    options = ("optim_wrapper.optimizer.lr=1e9", "optim_wrapper.clip_grad=None")
    status, said = start(tmp_path / "run", options=options).end()
    assert status == 7, said
    assert "not finite" in said or "the loss is" in said
    assert not (tmp_path / "run" / ADAPTERS).exists()


def test_a_base_that_holds_no_numbers_is_named_before_the_first_step(
    start: Start, tiny_base: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    held = load_file(base / "llm" / "model.safetensors")
    held["model.layers.0.mlp.up_proj.weight"][1, 1] = float("nan")
    save_file(held, base / "llm" / "model.safetensors", {"format": "pt"})
    folder = tmp_path / "run"
    status, said = start(folder, options=(f"model.llm.pretrained_model_name_or_path={base / 'llm'}",)).end()
    assert status == 7, said
    assert "as loaded, weights are not finite: " in said
    assert "layers.0.mlp.up_proj" in said
    assert not losses(folder)


def test_a_process_that_hangs_ends_the_run(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    training = start(folder, cold=True, options=("custom_hooks.2.minutes=0.05", "train_cfg.max_epochs=200"))
    training.until(lambda: len(losses(folder)) >= 3)
    status, said = start(folder).end()  # a second launch by mistake
    assert status == 4
    assert "is written by another training" in said
    os.kill(ranks(folder)[1], signal.SIGSTOP)
    begun = time.monotonic()
    status, said = training.end()
    assert status == 7
    assert "a process hangs" in said
    assert time.monotonic() - begun < 60
    assert ranks(folder) == []
