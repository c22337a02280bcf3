"""What XTuner and QLoRA do with the adapter: its own state dict filter, and 4-bit base layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from xtuner.model.utils import get_peft_model_state_dict

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter


@pytest.mark.parametrize(("settings", "mixers"), [({}, 14), ({"freeze_mixer": True}, 14), ({"mixer": "butterfly"}, 0)])
def test_xtuners_state_dict_has_the_whole_adapter(
    trained: Callable[..., PeftModel],
    logits: Callable[[nn.Module], Tensor],
    settings: dict[str, object],
    mixers: int,
) -> None:
    model = trained(**settings)
    state = get_peft_model_state_dict(model)
    assert len([name for name in state if ".lora_AB.default.weight" in name]) == mixers
    assert len(state) == 28 + mixers
    fresh = trained(seed=8, **settings)
    fresh.load_state_dict(state, strict=False)
    assert torch.equal(logits(fresh), logits(model))


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
