"""QLoRA's layers: 4-bit NF4 with double quantisation and 8-bit, on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bitsandbytes as bnb
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear4bit, Linear8bitLt
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter

Holds = Callable[[str, float, float], None]


class OneLayer(nn.Module):
    """A model of one Linear, 64 to 128 wide."""

    def __init__(self, proj: nn.Module) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


def quantised(proj: nn.Module, flag: str) -> OneLayer:
    """A model with random weights in a quantised layer, marked as transformers marks one that it has loaded."""
    torch.manual_seed(0)
    proj.load_state_dict(nn.Linear(64, 128).state_dict())
    model = OneLayer(proj).to("cpu")  # the move quantises
    setattr(model, flag, True)
    return model


def four_bit() -> OneLayer:
    """NF4 with double quantisation, as in QLoRA."""
    layer = bnb.nn.Linear4bit(64, 128, compute_dtype=torch.float32, compress_statistics=True, quant_type="nf4")
    return quantised(layer, "is_loaded_in_4bit")


def eight_bit() -> OneLayer:
    """LLM.int8()."""
    return quantised(bnb.nn.Linear8bitLt(64, 128, has_fp16_weights=False), "is_loaded_in_8bit")


def dense(weight: Tensor, bias: Tensor) -> OneLayer:
    """The same model with the weights that the 4-bit one computes with."""
    layer = nn.Linear(64, 128)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return OneLayer(layer)


def test_a_4_bit_layer_is_mixed_trained_saved_and_folded(tmp_path: Path, holds: Holds) -> None:
    config = MosLoraConfig(r=8, lora_alpha=16, target_modules=["proj"], mixer_init="orthogonal")
    model = get_peft_model(four_bit(), config)
    layer = model.base_model.model.proj
    assert isinstance(layer, Linear4bit)
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
        holds("output of a 4-bit layer", float((found - wanted).norm() / wanted.norm()), 1e-6)
        model.save_pretrained(str(tmp_path / "adapter"))
        for path in (tmp_path / "adapter", fold_adapter(tmp_path / "adapter", tmp_path / "folded")):
            # In eval mode bitsandbytes takes a faster CPU kernel, which is right to 2e-3 only.
            again = PeftModel.from_pretrained(four_bit(), str(path)).train()
            assert float((again(x).double() - found).norm() / found.norm()) < 1e-6


def test_merged_into_the_dequantised_base_nothing_is_lost(tmp_path: Path, holds: Holds) -> None:
    base = four_bit()
    weight = dequantised(base.proj).float()
    bias = base.proj.bias.detach().clone()
    model = get_peft_model(base, MosLoraConfig(r=8, lora_alpha=16, target_modules=["proj"], mixer_init="orthogonal"))
    layer = model.base_model.model.proj
    factors = {name: dict(layer.named_parameters())[f"lora_{name}.default.weight"] for name in ("A", "AB", "B")}
    factors["B"].data.normal_(0, 0.1)
    delta = 2.0 * (factors["B"].double() @ factors["AB"].double() @ factors["A"].double()).detach()
    model.save_pretrained(str(tmp_path / "adapter"))
    merged = PeftModel.from_pretrained(dense(weight, bias), str(tmp_path / "adapter")).merge_and_unload()
    assert type(merged.proj) is nn.Linear
    gap = (merged.proj.weight.detach().double() - weight.double() - delta).abs().max()
    holds("merge into the dequantised 4-bit base, against the delta", float(gap / delta.abs().max()), 1e-6)
    x = torch.randn(16, 64)
    with torch.no_grad():
        assert float((merged(x) - model.train()(x)).abs().max()) < 1e-5


def test_merging_in_place_requantises_base_plus_delta() -> None:
    for config in (LoraConfig, MosLoraConfig):
        model = get_peft_model(four_bit(), config(r=8, lora_alpha=16, target_modules=["proj"]))
        layer = model.base_model.model.proj
        factors = {n.split(".")[0]: p for n, p in layer.named_parameters() if "lora_" in n}
        factors["lora_B"].data.normal_(0, 0.1)
        a, b = factors["lora_A"].double(), factors["lora_B"].double()
        m = factors["lora_AB"].double() if config is MosLoraConfig else torch.eye(8).double()
        wanted = dequantised(layer.base_layer) + (2.0 * b @ m @ a).detach()
        layer.merge()
        packed, state = bnb.functional.quantize_4bit(wanted.float(), quant_type="nf4", compress_statistics=True)
        requantised = bnb.functional.dequantize_4bit(packed, state).double()
        assert float((dequantised(layer.base_layer) - requantised).norm() / wanted.norm()) < 1e-3


def dequantised(layer: bnb.nn.Linear4bit) -> Tensor:
    return bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).detach().double()


def test_an_8_bit_layer_is_mixed_and_has_every_gradient(holds: Holds) -> None:
    model = get_peft_model(eight_bit(), MosLoraConfig(r=8, lora_alpha=16, target_modules=["proj"]))
    layer = model.base_model.model.proj
    assert isinstance(layer, Linear8bitLt)
    factors = {name: dict(layer.named_parameters())[f"lora_{name}.default.weight"] for name in ("A", "AB", "B")}
    factors["B"].data.normal_(0, 0.1)
    x = torch.randn(32, 64)
    found = model(x)
    a, m, b = (factors[name].detach().double() for name in ("A", "AB", "B"))
    wanted = layer.base_layer(x).double() + 2.0 * x.double() @ a.T @ m.T @ b.T
    lost = (found.double() - wanted).detach().norm() / wanted.detach().norm()
    holds("output of an 8-bit layer", float(lost), 1e-6)
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
