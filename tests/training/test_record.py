"""What a run says of itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from moslora_xtuner.training import record


def test_git_state(tmp_path: Path) -> None:
    assert record.git_state(tmp_path) is None

    def git(*words: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "first")
    assert record.git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "file").write_text("two")
    assert record.git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "changed": True}


def test_hardware_of_this_machine() -> None:
    found = record.hardware()
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert found["memory_gib"] == pytest.approx(kib / 2**20, rel=0.01)
    assert found["cores"] == os.cpu_count()
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_throughput_counts_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "get_world_size", lambda: 4)
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(record.time, "perf_counter", lambda: next(clock))
    said: dict[str, Any] = {}
    runner = SimpleNamespace(message_hub=SimpleNamespace(update_scalar=lambda name, value: said.update({name: value})))
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    hook = record.Throughput()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0, {"data": {"attention_mask": mask}})
    # 3 records and 9 tokens in 2 seconds on each of 4.
    assert (said["train/samples_per_s"], said["train/tokens_per_s"]) == (6.0, 18.0)


def test_throughput_of_a_step_of_several_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "get_world_size", lambda: 2)
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(record.time, "perf_counter", lambda: next(clock))
    said: dict[str, Any] = {}
    runner = SimpleNamespace(message_hub=SimpleNamespace(update_scalar=lambda name, value: said.update({name: value})))
    hook = record.Throughput()
    hook.before_train(runner)
    masks = [torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.ones(1, 7)]
    hook.after_train_iter(runner, 0, [{"data": {"attention_mask": mask.bool()}} for mask in masks])
    # 3 records and 12 tokens in 2 seconds on each of 2.
    assert (said["train/samples_per_s"], said["train/tokens_per_s"]) == (3.0, 12.0)
