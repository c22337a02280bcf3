"""A model in PEFT's own way beside a fused copy of it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from small_llama import IDS, LLAMA_TARGETS, build_llama, randomise
from torch import Tensor

from moslora_xtuner.adapters import MosLoraConfig, fuse

KINDS: dict[str, Any] = {
    "LoRA": LoraConfig,
    "learned": MosLoraConfig,
    "frozen mixer": lambda **given: MosLoraConfig(freeze_mixer=True, **given),
    "butterfly": lambda **given: MosLoraConfig(mixer="butterfly", **given),
}


def tuned(kind: str, dropout: float = 0.1, dtype: torch.dtype = torch.float32, **options: Any) -> PeftModel:
    settings = {"r": 4, "lora_alpha": 6, "target_modules": LLAMA_TARGETS, "lora_dropout": dropout, **options}
    return randomise(get_peft_model(build_llama(), KINDS[kind](**settings))).to(dtype).train()


def pair(model: PeftModel) -> tuple[PeftModel, PeftModel]:
    """The model in PEFT's way, and a fused copy."""
    other = copy.deepcopy(model)
    assert fuse(other) == sum("lora_A.default.weight" in name for name, _ in model.named_parameters())
    return model, other


def step(model: Any, **context: Any) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=context.get("autocast", False)):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return loss.detach(), gradients


def assert_alike(found: dict[str, Tensor], wanted: dict[str, Tensor], within: float) -> None:
    assert found.keys() == wanted.keys()
    for name, right in wanted.items():
        error = (found[name].double() - right.double()).norm() / right.double().norm()
        assert error <= within, f"{name}: {error:.1e}"
