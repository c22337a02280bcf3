"""How many processes a launch starts."""

from __future__ import annotations

import os

import pytest
import torch

from moslora_xtuner.errors import ConfigError, UsageError
from moslora_xtuner.training.plan.setting import read_setting
from moslora_xtuner.training.processes import default_processes, processes_for, require_deepspeed


@pytest.mark.parametrize(("gpus", "cores", "started"), [(0, 1, 1), (0, 2, 2), (0, 64, 2), (1, 8, 1), (8, 64, 8)])
def test_one_a_gpu_or_two_on_a_cpu(monkeypatch: pytest.MonkeyPatch, gpus: int, cores: int, started: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert default_processes() == processes_for(None, None) == started
    # The plan of the same machine counts the same ones; of another, those that it is told.
    assert read_setting("digits_moslora").processes == started
    assert read_setting("digits_moslora", gpus=4, gpu_memory=80).processes == 4


def test_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert processes_for(2, None) == 2
    assert processes_for(None, 3) == 3
    with pytest.raises(ConfigError, match="8 GPUs are asked for, this machine has 4"):
        processes_for(8, None)
    with pytest.raises(UsageError, match="--gpus or --processes"):
        processes_for(2, 2)
    monkeypatch.setenv("NNODES", "2")
    with pytest.raises(ConfigError, match=r"NNODES is 2: .*start `xtuner train` on each"):
        processes_for(2, None)


def test_several_on_a_cpu_need_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    require_deepspeed("zero2", 2)
    require_deepspeed(None, 1)
    with pytest.raises(ConfigError, match="take --deepspeed zero2, or --processes 1"):
        require_deepspeed(None, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    require_deepspeed(None, 2)
