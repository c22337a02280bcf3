"""Parts can be written in the middle of a training: the model goes on as if nothing had been."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel
from safetensors.torch import load_file
from small_llama import IDS, build_llama
from text_models import TARGETS

from moslora_xtuner.causal_lm import MosLoraCausalLM
from moslora_xtuner.training.parts import write_parts


def half_way(delta: int, steps: int) -> Any:
    """An AdaLoRA in the middle of its run, whose ranks are masked every so many steps."""
    torch.manual_seed(0)
    config = AdaLoraConfig(
        init_r=6, target_r=2, target_modules=TARGETS, task_type="CAUSAL_LM", total_step=12, deltaT=delta
    )
    model: Any = MosLoraCausalLM(build_llama(), config, use_activation_checkpointing=False)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-2)
    for step in range(1, steps + 1):
        model.llm(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        model.llm.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize(("delta", "steps", "masked"), [(1, 5, True), (4, 5, False), (4, 3, False)])
def test_of_adalora_what_computes_the_same(delta: int, steps: int, masked: bool, tmp_path: Path) -> None:
    """Loaded by stock PEFT; between two masks what was left out has grown again, and counts."""
    model = half_way(delta, steps)
    config = model.llm.peft_config["default"]
    pattern = copy.deepcopy(config.rank_pattern)
    assert (pattern is None) is (delta == 4 and steps == 3)
    write_parts(model, tmp_path)
    assert config.rank_pattern == pattern  # PEFT shortens its names
    weights = load_file(tmp_path / "llm" / "adapter_model.safetensors")
    values = {name: len(weight) for name, weight in weights.items() if "lora_E" in name}
    assert (sum(values.values()) < 6 * len(values)) is masked
    loaded = PeftModel.from_pretrained(build_llama(), tmp_path / "llm").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(IDS).logits, model.eval().llm(IDS).logits)


def test_nothing_else_changes(tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM", rank_pattern={"q_proj": 2})
    model: Any = MosLoraCausalLM(build_llama(), config, use_activation_checkpointing=True).train()
    before = {name: value.clone() for name, value in torch.nn.Module.state_dict(model).items()}
    told = copy.deepcopy(config.to_dict())
    write_parts(model, tmp_path)
    assert config.to_dict() == told
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in torch.nn.Module.state_dict(model).items())
    write_parts(model, tmp_path / "another")
