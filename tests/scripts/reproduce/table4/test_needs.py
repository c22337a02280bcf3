"""Disk and memory that the steps left need, by hand; a machine that has less is told so."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from reproduce import planned
from reproduce.table4 import needs
from reproduce.table4.catalogue import Trained

GIB = 2**30
LORA = Trained("lora", 100.0, 1)
STEPS = ["data", "prepare", "part-25-seed-1", "prepare-part-25-seed-1", "train-lora-seed-1", "eval-lora-seed-1"]


def plan(trained: int = 28_311_552, gib: float = 16.5) -> Any:
    """What `moslora plan` found of a recipe that keeps two checkpoints."""
    config = {"default_hooks": {"checkpoint": {"max_keep_ckpts": 2}}}
    setting = SimpleNamespace(config=config, precision=SimpleNamespace(compute=2))
    part = SimpleNamespace(trainable=trained, parameters=8_030_261_248)
    return SimpleNamespace(setting=setting, llm=part, memory=SimpleNamespace(total=gib * GIB))


def free(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=gib * GIB))


def test_disk_of_all_steps_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Questions and store 0.5 each, a quarter of a store, answers 0.05; three times 14 bytes a weight and 4."""
    needed = 0.5 + 0.5 + 0.125 + 0.05 + 28_311_552 * (3 * (2 + 12) + 4) / GIB
    assert needed == pytest.approx(2.39, abs=0.005)
    for gib, told in ((needed + 0.01, []), (needed - 0.01, [f"{tmp_path} has 2.4 GiB free, the steps left need"])):
        free(monkeypatch, gib)
        found = list(needs.disk([LORA], {"lora": plan()}, STEPS, tmp_path / "not" / "yet"))
        assert [line[: len(start)] for line, start in zip(found, told, strict=True)] == told


def test_every_seed_needs_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free(monkeypatch, 2.0)
    one = [LORA]
    assert list(needs.disk(one, {"lora": plan()}, [], tmp_path)) == []
    (told,) = needs.disk([*one, Trained("lora", 100.0, 2)], {"lora": plan()}, [], tmp_path)
    assert "need about 2.4" in told


def test_a_machine_that_cannot_hold_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "loaded", lambda _: 1e6 * GIB)
    (told,) = needs.memory({"lora": plan()}, 0)
    assert "GiB of memory, loading the model takes 1000000.0" in told


def test_without_its_files_a_model_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: Any) -> float:
        raise OSError("no such folder")

    monkeypatch.setattr("moslora_xtuner.training.plan.costs.host_memory_while_loading", gone)
    assert needs.loaded(plan()) == 2 * 8_030_261_248


def test_a_gpu_that_is_too_small_for_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "loaded", lambda _: 0.0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: SimpleNamespace(total_memory=(24, 17)[n] * GIB))
    plans = {"lora": plan(), "dora": plan(gib=17.2)}
    (told,) = needs.memory(plans, 2)
    assert told.startswith("commonsense_dora needs about 17.2 GiB of a GPU, which has 17.0: ")
    assert list(needs.memory({"lora": plan()}, 2)) == []


def test_where_nothing_is_here_yet_llama_3_8b_is_planned_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its weights, and a GPU's memory near what docs/commonsense.md has for records of 256 tokens."""
    for variable in ("COMMONSENSE_LLM", "COMMONSENSE_STORE"):
        monkeypatch.setenv(variable, str(tmp_path / "gone"))
    found = needs.plans_of([LORA], 1, [])["lora"]
    assert found.llm.trainable == 28_311_552
    assert found.memory.total / GIB == pytest.approx(16.5, abs=0.1)
    assert planned.hours(found, 125.0) is not None
