"""QLoRA's layers: 4-bit NF4 with double quantisation and 8-bit, on a CPU."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes as bnb
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter


class Quantised(nn.Module):
    """One NF4, double-quantised Linear, as in QLoRA."""

    is_loaded_in_4bit = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        dense = nn.Linear(64, 128)
        self.proj = bnb.nn.Linear4bit(64, 128, compute_dtype=torch.float32, compress_statistics=True, quant_type="nf4")
        self.proj.load_state_dict(dense.state_dict())
        self.to("cpu")

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


def test_a_4_bit_layer_is_mixed_trained_saved_and_folded(tmp_path: Path) -> None:
    config = MosLoraConfig(r=8, lora_alpha=16, target_modules=["proj"], mixer_init="orthogonal")
    model = get_peft_model(Quantised(), config)
    layer = model.base_model.model.proj
    assert type(layer).__name__ == "Linear4bit"
    assert layer.base_layer.weight.dtype is torch.uint8
    x = torch.randn(32, 64)
    target = model.base_model.model.proj.base_layer(x) + x @ (torch.randn(64, 128) * 0.1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    a, m, b = (
        dict(layer.named_parameters())[f"lora_{part}.default.weight"].detach().double() for part in ("A", "AB", "B")
    )
    with torch.no_grad():
        found = model(x).double()
        wanted = layer.base_layer(x).double() + 2.0 * x.double() @ a.T @ m.T @ b.T
        assert float((found - wanted).norm() / wanted.norm()) < 1e-6
        model.save_pretrained(str(tmp_path / "adapter"))
        for path in (tmp_path / "adapter", fold_adapter(tmp_path / "adapter", tmp_path / "folded")):
            # In eval mode bitsandbytes takes a faster CPU kernel, which is right to 2e-3 only.
            again = PeftModel.from_pretrained(Quantised(), str(path)).train()
            assert float((again(x).double() - found).norm() / found.norm()) < 1e-6


class Dense(nn.Module):
    """The same model with the weights that the 4-bit one computes with."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.proj = nn.Linear(64, 128)
        self.proj.weight.data.copy_(weight)
        self.proj.bias.data.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


def test_merged_into_the_dequantised_base_nothing_is_lost(tmp_path: Path) -> None:
    base = Quantised()
    weight = bnb.functional.dequantize_4bit(base.proj.weight.data, base.proj.weight.quant_state).detach()
    bias = base.proj.bias.detach().clone()
    model = get_peft_model(base, MosLoraConfig(r=8, lora_alpha=16, target_modules=["proj"], mixer_init="orthogonal"))
    layer = model.base_model.model.proj
    factors = {name: dict(layer.named_parameters())[f"lora_{name}.default.weight"] for name in ("A", "AB", "B")}
    factors["B"].data.normal_(0, 0.1)
    delta = 2.0 * (factors["B"].double() @ factors["AB"].double() @ factors["A"].double()).detach()
    model.save_pretrained(str(tmp_path / "adapter"))
    merged = PeftModel.from_pretrained(Dense(weight, bias), str(tmp_path / "adapter")).merge_and_unload()
    assert type(merged.proj) is nn.Linear
    gap = (merged.proj.weight.detach().double() - weight.double() - delta).abs().max()
    assert float(gap / delta.abs().max()) < 1e-6
    x = torch.randn(16, 64)
    with torch.no_grad():
        assert float((merged(x) - model.train()(x)).abs().max()) < 1e-5


class EightBit(nn.Module):
    """One LLM.int8() Linear."""

    is_loaded_in_8bit = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        dense = nn.Linear(64, 128)
        self.proj = bnb.nn.Linear8bitLt(64, 128, has_fp16_weights=False)
        self.proj.load_state_dict(dense.state_dict())
        self.to("cpu")

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


def test_an_8_bit_layer_is_mixed_and_has_every_gradient() -> None:
    model = get_peft_model(EightBit(), MosLoraConfig(r=8, lora_alpha=16, target_modules=["proj"]))
    layer = model.base_model.model.proj
    assert type(layer).__name__ == "Linear8bitLt"
    factors = {name: dict(layer.named_parameters())[f"lora_{name}.default.weight"] for name in ("A", "AB", "B")}
    factors["B"].data.normal_(0, 0.1)
    x = torch.randn(32, 64)
    found = model(x)
    a, m, b = (factors[name].detach().double() for name in ("A", "AB", "B"))
    wanted = layer.base_layer(x).double() + 2.0 * x.double() @ a.T @ m.T @ b.T
    assert float((found.double() - wanted).detach().norm() / wanted.detach().norm()) < 1e-6
    found.square().sum().backward()
    slope = 2 * found.detach().double()
    by_hand = {
        "A": 2.0 * m.T @ b.T @ slope.T @ x.double(),
        "AB": 2.0 * b.T @ slope.T @ x.double() @ a.T,
        "B": 2.0 * slope.T @ x.double() @ a.T @ m.T,
    }
    for name, factor in factors.items():
        assert factor.grad is not None
        assert float((factor.grad.double() - by_hand[name]).norm() / by_hand[name].norm()) < 1e-5, name
