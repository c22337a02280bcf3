"""What importing the plugin does to XTuner and to the environment."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest
import torch

from moslora_xtuner import plugin
from moslora_xtuner.errors import ConfigError

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable of torchrun's, before and after."""
    for name in RANK_VARIABLES:
        monkeypatch.setenv(name, "x")  # so that it is restored
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(("name", "stage"), [("zero2", 2), ("zero3", 3)])
@pytest.mark.parametrize(("gpu", "overlap"), [(False, False), (True, True)])
def test_zero_stages_are_names_that_xtuner_finds(
    monkeypatch: pytest.MonkeyPatch, name: str, stage: int, gpu: bool, overlap: bool
) -> None:
    from xtuner.configs import cfgs_name_path

    monkeypatch.setitem(cfgs_name_path, name, "none")
    monkeypatch.setattr(plugin, "has_gpu", lambda: gpu)
    plugin.register_deepspeed_names()
    content = json.loads(Path(cfgs_name_path[name]).read_text())
    assert content["zero_optimization"]["stage"] == stage
    assert content["zero_optimization"]["overlap_comm"] is overlap
    if not gpu:
        assert not content.get("fp16", {}).get("enabled")
        assert not content.get("bf16", {}).get("enabled")


@pytest.mark.parametrize(
    "words",
    [
        ["--deepspeed", "zero2"],
        ["--deepspeed=zero2"],
        ["--deepsp", "zero2"],
        ["--deepspeed", "zero2", "--launcher", "none"],
        ["--launcher=none", "--deepspeed=zero2"],
    ],
)
def test_a_single_process_gets_what_torchrun_would_set(clean: pytest.MonkeyPatch, words: list[str]) -> None:
    clean.setattr(sys, "argv", ["train.py", "config.py", *words])
    plugin.describe_single_process()
    assert [os.environ[name] for name in RANK_VARIABLES[:4]] == ["0", "0", "1", "127.0.0.1"]
    with socket.socket() as probe:  # the port is free
        probe.bind(("127.0.0.1", int(os.environ["MASTER_PORT"])))


@pytest.mark.parametrize(
    ("argv", "world"),
    [
        (["train.py", "config.py"], None),
        (["train.py", "--deepspeed", "zero2", "--launcher", "slurm"], None),
        (["train.py", "--deepspeed=zero2", "--launcher=slurm"], None),
        (["train.py", "--launcher=pytorch", "--deepspeed", "zero2"], None),
        (["train.py", "--deepspeed", "zero2"], "4"),
    ],
)
def test_launchers_are_left_alone(clean: pytest.MonkeyPatch, argv: list[str], world: str | None) -> None:
    clean.setattr(sys, "argv", argv)
    if world is not None:
        clean.setenv("WORLD_SIZE", world)
    plugin.describe_single_process()
    assert "MASTER_PORT" not in os.environ
    assert os.environ.get("WORLD_SIZE") == world


@pytest.mark.parametrize("words", [["--launcher=slurm"], ["--launch", "slurm"], ["--launcher=mpi"]])
def test_two_launchers_at_once_are_refused(clean: pytest.MonkeyPatch, words: list[str]) -> None:
    """What xtuner makes of `--launcher=slurm` with NPROC_PER_NODE=4: torchrun, and its own word at the end."""
    clean.setattr(sys, "argv", ["train.py", "config.py", *words, "--launcher", "pytorch"])
    plugin.require_one_launcher()  # not under torchrun
    clean.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(ConfigError, match="write `--launcher slurm` in two words"):
        plugin.require_one_launcher()
    clean.setattr(sys, "argv", ["train.py", "config.py", "--launcher", "pytorch"])
    plugin.require_one_launcher()


def test_mmengine_starts_gloo_where_there_is_no_gpu_and_is_untouched_where_there_is() -> None:
    import mmengine.dist.utils as dist

    assert (dist._init_dist_pytorch.__module__ == plugin.__name__) is not torch.cuda.is_available()
    assert torch.cuda.is_available() or torch.cpu.is_bf16_supported() is False


def test_the_adapter_is_registered_with_peft() -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    from moslora_xtuner.adapters import MosLoraConfig

    assert PEFT_TYPE_TO_CONFIG_MAPPING["MOSLORA"] is MosLoraConfig


def test_mmengines_checkpoints_load_as_weights_only(tmp_path: Path) -> None:
    import numpy as np
    import torch
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer([1.0, 2.5], [1, 1])
    content = {"cfg": ConfigDict(a=ConfigDict(b=1)), "loss": history, "scalar": np.float64(0.25)}
    torch.save(content, tmp_path / "own.pth")
    found = torch.load(tmp_path / "own.pth", weights_only=True)
    assert found["cfg"].a.b == 1
    assert found["loss"].current() == 2.5
    assert found["loss"].mean() == 1.75
    assert found["scalar"] == 0.25


def test_a_checkpoint_gets_at_nothing_else(tmp_path: Path) -> None:
    import pickle

    import torch

    class Greedy:
        def __reduce__(self) -> tuple[object, ...]:
            return getattr, (torch.nn.Linear, "forward")

    torch.save({"x": Greedy()}, tmp_path / "foreign.pth")
    with pytest.raises((pickle.UnpicklingError, TypeError)):
        torch.load(tmp_path / "foreign.pth", weights_only=True)
