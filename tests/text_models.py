"""MosLoraCausalLM on a small LLaMA, with each kind of adapter, and a batch for it."""

from __future__ import annotations

from typing import Any

import torch
from peft import AdaLoraConfig, LoHaConfig, LoKrConfig, LoraConfig
from small_llama import build_llama

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.causal_lm import MosLoraCausalLM
from moslora_xtuner.data.dataset import collate

TARGETS = ["q_proj", "v_proj", "down_proj"]
KINDS: dict[str, Any] = {
    "lora": lambda: LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM"),
    "moslora": lambda: MosLoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM"),
    "frozen": lambda: MosLoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM", freeze_mixer=True),
    "dora": lambda: LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM", use_dora=True),
    "loha": lambda: LoHaConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM"),
    "lokr": lambda: LoKrConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM"),
    "adalora": lambda: AdaLoraConfig(init_r=4, target_r=2, target_modules=TARGETS, task_type="CAUSAL_LM", total_step=9),
}


def build(kind: str = "moslora", seed: int = 0, **options: Any) -> MosLoraCausalLM:
    """With weights as after training in every factor."""
    model = MosLoraCausalLM(build_llama(), KINDS[kind](), **{"use_activation_checkpointing": False, **options})
    generator = torch.Generator().manual_seed(seed)
    for _, weight in sorted(model.named_parameters()):
        if weight.requires_grad:
            weight.data += torch.randn(weight.shape, generator=generator) * 0.1
    return model


def batch() -> dict[str, Any]:
    """Two records of different lengths, their first two places without a label."""
    rows = [[1, 5, 9, 2, 7, 3, 11, 4], [3, 3, 8, 40]]
    made: dict[str, Any] = collate([{"input_ids": row, "labels": [-100, -100, *row[2:]]} for row in rows])["data"]
    return made
