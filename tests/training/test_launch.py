"""How a launch finds its config, reads its child's output and tells why a training failed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from moslora_xtuner.errors import OutputError, TrainingError
from moslora_xtuner.training import launch
from moslora_xtuner.training.artifacts import ADAPTERS, MANIFEST


def run(tmp_path: Path, script: str, steps: list[tuple[int, int, float]] | None = None) -> Path:
    """Run a Python script in the place of xtuner."""
    seen = steps if steps is not None else []
    command = [sys.executable, "-c", script, str(tmp_path)]
    return launch._run(command, tmp_path, 3, {"EXTRA": "1"}, lambda *step: seen.append(step))


LEAVE_ADAPTERS = (
    f"import pathlib, sys; p = pathlib.Path(sys.argv[1], '{ADAPTERS}'); p.mkdir(); (p / '{MANIFEST}').touch()"
)


def test_reports_mmengines_steps_and_keeps_the_log(tmp_path: Path) -> None:
    steps: list[tuple[int, int, float]] = []
    line = "11/22 05:00:00 - mmengine - INFO - Iter(train) [  5/500]  lr: 2.0e-04  eta: 0:01:02  time: 0.1  loss: {}"
    script = f"print({line.format('3.1416')!r}); print({line.format('nan')!r}); {LEAVE_ADAPTERS}"
    assert run(tmp_path, script, steps) == tmp_path
    assert steps[0] == (5, 500, 3.1416)
    assert steps[1][2] != steps[1][2]  # nan
    log = (tmp_path / launch.LOG).read_text()
    assert log.startswith("$ NPROC_PER_NODE=3 ")
    assert "loss: 3.1416" in log


def test_the_child_sees_its_variables_and_this_python(tmp_path: Path) -> None:
    variables = "os.environ['NPROC_PER_NODE'] == '3' and os.environ['EXTRA'] == '1'"
    script = f"import os, shutil; assert {variables}; print(shutil.which('python')); {LEAVE_ADAPTERS}"
    run(tmp_path, script)
    assert str(Path(sys.executable).parent) in (tmp_path / launch.LOG).read_text()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('all is well')", "no error in its last lines"),  # XTuner exits 0 after a failed training
        ("raise ValueError('the loss is nan')", "ValueError: the loss is nan"),
        (f"{LEAVE_ADAPTERS}; raise SystemExit(3)", "exit status 3"),
    ],
)
def test_a_training_that_left_nothing_failed(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(TrainingError) as fault:
        run(tmp_path, script)
    assert reason in str(fault.value)
    assert str(tmp_path / launch.LOG) in str(fault.value)


def test_an_interrupted_launch_leaves_no_process(tmp_path: Path) -> None:
    import os

    pids: list[int] = []

    def stop(step: int, total: int, loss: float) -> None:
        pids.append(step)
        raise KeyboardInterrupt

    script = "import os, time; print(f'Iter(train) [{os.getpid()}/1] loss: 1.0', flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        launch._run([sys.executable, "-c", script], tmp_path, 1, {}, stop)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ADAPTERS).mkdir()
    (tmp_path / ADAPTERS / "mine.txt").touch()
    with pytest.raises(OutputError, match="not made by moslora"):
        launch.train("digits_lora", work_dir=tmp_path)
    assert (tmp_path / ADAPTERS / "mine.txt").exists()
