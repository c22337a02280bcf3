"""Fused adapters over layers that are no plain nn.Linear: quantised ones, and transformers' Conv1D."""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from fused_pairs import KINDS, assert_alike, pair, step
from peft import get_peft_model
from small_llama import randomise
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from moslora_xtuner.adapters import MosLoraConfig, fuse


def quantised(bits: int, dtype: torch.dtype) -> nn.ModuleDict:
    torch.manual_seed(0)
    if bits == 4:
        layer: Any = bnb.nn.Linear4bit(64, 96, compute_dtype=dtype, compress_statistics=True, quant_type="nf4")
    else:
        layer = bnb.nn.Linear8bitLt(64, 96, has_fp16_weights=False)
    layer.load_state_dict(nn.Linear(64, 96).state_dict())
    model = nn.ModuleDict({"proj": layer}).to("cpu")  # the move quantises
    setattr(model, f"is_loaded_in_{bits}bit", True)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_over_a_quantised_layer(kind: str, bits: int, dtype: torch.dtype, calls: list[int]) -> None:
    config = KINDS[kind](r=8, lora_alpha=16, target_modules=["proj"], lora_dropout=0.2)
    model = get_peft_model(quantised(bits, dtype), config)  # type: ignore[arg-type]
    layer = randomise(model).base_model.model["proj"].train()
    made = []
    for on in (False, True):
        assert fuse(model, on) == on
        x = torch.linspace(-1, 1, 40 * 64).reshape(2, 20, 64).to(dtype).requires_grad_()
        torch.manual_seed(1)
        y = layer(x)
        assert y.dtype == dtype
        y.backward(torch.ones_like(y))
        made.append([y.detach(), x.grad, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
        model.zero_grad()
    assert len(calls) == 1
    for found, wanted in zip(made[1], made[0], strict=True):
        within = 1e-5 if dtype == torch.float32 else 2e-2
        assert (found - wanted).float().norm() <= within * wanted.float().norm()


def test_over_transformers_conv1d() -> None:
    """GPT-2 keeps its weights the other way round."""
    torch.manual_seed(0)
    base = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=64, n_positions=16))
    config = MosLoraConfig(r=4, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, lora_dropout=0.1)
    plain, fast = pair(randomise(get_peft_model(base, config)).train())
    wanted, found = step(plain), step(fast)
    assert found[0] == pytest.approx(float(wanted[0]), rel=1e-6)
    assert_alike(found[1], wanted[1], 2e-5)
