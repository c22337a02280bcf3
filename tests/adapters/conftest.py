"""Small real models, and the paper's formula in float64 to hold the adapter against."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from places import SCRIPT, python_path
from small_llama import IDS, LLAMA_TARGETS, build_llama, randomise
from torch import Tensor, nn
from transformers import LlamaForCausalLM

import moslora_xtuner
from moslora_xtuner.adapters import MosLoraConfig

Holds = Callable[[str, float, float], None]


@pytest.fixture
def holds(record_property: Callable[[str, object], None]) -> Holds:
    """Assert that a figure keeps to its bound, and record both: docs/adapter.md's table is made from them."""

    def check(what: str, found: float, bound: float) -> None:
        record_property(f"figure: {what}", f"{found:.1e} {bound:g}")
        assert found <= bound, f"{what}: {found:.2e}, and at most {bound:g} is right"

    return check


@pytest.fixture
def llama() -> Callable[..., LlamaForCausalLM]:
    return build_llama


@pytest.fixture
def trained(llama: Callable[..., LlamaForCausalLM]) -> Callable[..., PeftModel]:
    """An adapted LLaMA with weights as after training: trained(r=4, mixer=..., ...)."""

    def build(seed: int = 1, **kwargs: Any) -> PeftModel:
        settings = {"r": 4, "lora_alpha": 8, "target_modules": LLAMA_TARGETS, "task_type": "CAUSAL_LM"}
        model = get_peft_model(llama(), MosLoraConfig(**{**settings, **kwargs}))
        return randomise(model, seed).eval()

    return build


@pytest.fixture
def logits() -> Callable[[nn.Module], Tensor]:
    def run(model: nn.Module, **kwargs: Any) -> Tensor:
        with torch.no_grad():
            return model(input_ids=IDS, **kwargs).logits

    return run


@pytest.fixture
def plain_python() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a script in a process of its own, with this package to import."""

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), script]
        environment = {**os.environ, "PYTHONPATH": python_path(Path(moslora_xtuner.__file__).parents[1])}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)

    return run


@pytest.fixture
def stock_python(plain_python: Callable[..., Any]) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a script in a process that never imports this package, only stock PEFT."""
    guard = "\nimport sys\nassert not any(m.startswith('moslora_xtuner') for m in sys.modules)\n"
    return lambda script: plain_python(script + guard)


@pytest.fixture
def saved(trained: Callable[..., PeftModel], tmp_path: Path) -> Callable[..., tuple[PeftModel, Path]]:
    def save(**kwargs: Any) -> tuple[PeftModel, Path]:
        model = trained(**kwargs)
        model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
        return model, tmp_path / "adapter"

    return save


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each fused branch that is computed."""
    from moslora_xtuner.adapters.branch import LowRankBranch

    made: list[int] = []
    apply = LowRankBranch.apply

    def count(*given: Any) -> Any:
        made.append(1)
        return apply(*given)

    monkeypatch.setattr(LowRankBranch, "apply", count)
    return made
