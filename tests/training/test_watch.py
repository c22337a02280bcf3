"""What becomes of a training when a process hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from places import python_path

from moslora_xtuner.errors import TrainingError

HANGING = """
import time
from moslora_xtuner.training.watch import Watchdog
dog = Watchdog(minutes=0.005)
dog.before_train(None)
dog.after_train_iter(None, 0)
for _ in range(10):
    time.sleep(0.05)
    dog.after_train_iter(None, 0)
dog.before_save_checkpoint(None, {})
time.sleep(1)
dog.before_train_iter(None, 0)
print("steps are done", flush=True)
def waits():
    time.sleep(60)
waits()
"""


def test_a_process_that_waits_for_ever_says_where_and_ends() -> None:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": python_path()},
    )  # fmt: skip
    assert done.returncode == TrainingError.exit_code
    assert done.stdout == "steps are done\n"
    assert "in waits" in done.stderr
    assert "moslora_xtuner.errors.TrainingError: no step for " in done.stderr
    assert time.monotonic() - begun < 50
