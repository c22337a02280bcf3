"""`moslora train` in a process of its own, that something can happen to; and what a run leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moslora_xtuner.training.artifacts import ADAPTERS, LLM

from .processes import ranks

OPTIONS = (
    "train_dataloader.batch_size=2",
    "train_dataloader.sampler.per_device_batch_size=2",
    "optim_wrapper.accumulative_counts=2",
    "train_cfg.max_epochs=3",
    "default_hooks.logger.interval=1",
    "log_processor.window_size=1",
    "default_hooks.checkpoint.interval=3",
    "default_hooks.checkpoint.max_keep_ckpts=2",
    "model.llm_lora.lora_dropout=0.1",
    "model.visual_encoder_lora.lora_dropout=0.1",
)
"""Accumulation, dropout and checkpoints that come often: what a resume has to get right."""


class Training:
    """`moslora train` of digits_moslora, with `OPTIONS`.

    Args:
        folder: the run's.
        environment: variables besides this process's.
        words: of the command line.
        options: `key=value` changes of the config, after `OPTIONS`.
        processes: how many train.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *words: str,
        options: Sequence[str] = (),
        processes: int = 2,
    ) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "moslora_xtuner", "train", "digits_moslora", "--skip-plan"]
        command += ["--processes", str(processes), "--work-dir", str(folder), *words]
        command += [word for option in (*OPTIONS, *options) for word in ("--cfg-options", option)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
        )

    def until(self, done: Callable[[], Any], seconds: float = 120) -> None:
        """Wait until something holds. Raises AssertionError when the training ends before, or it takes too long."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.end()
            time.sleep(0.02)

    def end(self, seconds: float = 240) -> tuple[int, str]:
        """Its exit status, and what it said."""
        said, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, said


def losses(folder: Path) -> dict[int, float]:
    """The loss of each iteration, of all starts of a run; where one was done again, the last."""
    found: dict[int, float] = {}
    for file in sorted(folder.glob("*/vis_data/scalars.json"), key=lambda file: file.stat().st_mtime):
        for line in file.read_text().splitlines():
            if line.endswith("}") and "loss" in (row := json.loads(line)):
                found[row["step"]] = row["loss"]
    return found


def weights(folder: Path) -> bytes:
    """The language model's adapter, as it stands on the disk."""
    return (folder / ADAPTERS / LLM / "adapter_model.safetensors").read_bytes()


def nobody_left(folder: Path, seconds: float = 60) -> float | None:
    """After how many seconds no process of a run was there any more; None when some stay."""
    begun = time.monotonic()
    while ranks(folder):
        if time.monotonic() - begun > seconds:
            return None
        time.sleep(0.1)
    return time.monotonic() - begun
