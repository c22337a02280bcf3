"""Loader processes by hand for machines of several sizes, and a recipe that any number of them loads."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from places import CONFIGS
from torch.utils.data import DataLoader

from moslora_xtuner.training.loader import loader_workers, no_needless_pause, usable_cores, without_workers

RECIPE = CONFIGS / "llava_llama3_moslora.py"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set a machine's cores and GPU, and the processes that a launcher says."""

    def make(cores: int, gpu: bool = True, **variables: str) -> None:
        monkeypatch.setattr("moslora_xtuner.training.loader.usable_cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        for name in ("LOCAL_WORLD_SIZE", "NPROC_PER_NODE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return make


@pytest.mark.parametrize(
    ("cores", "processes", "gpu", "workers"),
    [
        (64, 8, True, 4),  # 7 would be free, 4 are enough
        (16, 1, True, 4),
        (16, 4, True, 3),
        (8, 4, True, 1),
        (4, 4, True, 1),  # the GPU works meanwhile
        (2, 8, True, 1),
        (2, 1, False, 1),
        (2, 2, False, 0),
        (1, 1, False, 0),
    ],
)
def test_workers_by_hand(machine: Any, cores: int, processes: int, gpu: bool, workers: int) -> None:
    machine(cores, gpu, LOCAL_WORLD_SIZE=str(processes))
    assert loader_workers() == workers


def test_who_says_the_processes(machine: Any) -> None:
    """torchrun's word in a training process, else what `moslora train` will ask of it; else one."""
    machine(16, LOCAL_WORLD_SIZE="8", NPROC_PER_NODE="2")
    assert loader_workers() == 1
    machine(9, NPROC_PER_NODE="3")
    assert loader_workers() == 2
    machine(4)
    assert loader_workers() == 3


@pytest.mark.parametrize(
    ("files", "usable"),
    [
        ({}, 12),
        ({"cpu.max": "max 100000\n"}, 12),
        ({"cpu.max": "350000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 12),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 12),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_a_containers_quota(
    files: dict[str, str], usable: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moslora_xtuner.training.loader.cores", lambda: 12)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == usable


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4")
@pytest.mark.parametrize(("cores", "gpu"), [(1, False), (2, False), (1, True), (32, True)])
def test_torch_takes_the_recipes_loader(machine: Any, cores: int, gpu: bool) -> None:
    machine(cores, gpu)
    found = Config.fromfile(RECIPE, import_custom_modules=False).train_dataloader
    workers = loader_workers()
    assert (found.num_workers, found.persistent_workers, found.pin_memory) == (workers, workers > 0, gpu)
    DataLoader([1, 2], num_workers=workers, persistent_workers=found.persistent_workers, pin_memory=found.pin_memory)  # type: ignore[arg-type]


def test_no_workers_by_one_option(machine: Any) -> None:
    machine(32)
    config = Config.fromfile(RECIPE, import_custom_modules=False)
    config.merge_from_dict({"train_dataloader.num_workers": 0, "train_dataloader.prefetch_factor": 4})
    kept = ("num_workers", "persistent_workers", "prefetch_factor", "pin_memory")

    def options(loader: Any) -> dict[str, Any]:
        return {key: loader[key] for key in kept if key in loader}

    with pytest.raises(ValueError, match="num_workers"):
        DataLoader([1, 2], **options(config.train_dataloader))  # type: ignore[arg-type]
    changed = without_workers(config.train_dataloader)
    DataLoader([1, 2], **options(changed))  # type: ignore[arg-type]
    assert options(changed) == {"num_workers": 0, "pin_memory": True}
    some = ConfigDict(num_workers=2, persistent_workers=True)
    assert without_workers(some) == some


def test_between_epochs_nobody_waits_for_processes_that_are_not_there() -> None:
    from mmengine.runner import loops

    stock = loops.time
    with no_needless_pause(SimpleNamespace(num_workers=2)):
        assert loops.time is stock
    with no_needless_pause(SimpleNamespace(num_workers=0)):
        loops.time.sleep(3600)
    assert loops.time is stock
