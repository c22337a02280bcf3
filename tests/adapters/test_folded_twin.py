"""What PEFT's layers do with several adapters, against stock LoRA with the folded ones in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter, has_mixer

Logits = Callable[..., Tensor]
Twins = tuple[PeftModel, PeftModel]
COMBINATIONS = ["linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune"]
COMBINATIONS += [f"{name}_svd" for name in ("ties", "dare_linear", "dare_ties", "magnitude_prune")]


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max() / b.detach().abs().max())


@pytest.fixture
def twins(trained: Callable[..., PeftModel], llama: Callable[..., nn.Module], tmp_path: Path) -> Twins:
    """Adapters default (learned) and fly (butterfly), and their folded forms in a second model."""
    model = trained()
    trained(seed=4, mixer="butterfly").save_pretrained(str(tmp_path / "fly"), save_embedding_layers=False)
    model.save_pretrained(str(tmp_path / "default"), save_embedding_layers=False)
    model.load_adapter(str(tmp_path / "fly"), "fly")
    for name in ("default", "fly"):
        fold_adapter(tmp_path / name, tmp_path / f"{name}-folded")
    plain = PeftModel.from_pretrained(llama(), str(tmp_path / "default-folded"))
    plain.load_adapter(str(tmp_path / "fly-folded"), "fly")
    assert not has_mixer(plain)
    return model.eval(), plain.eval()


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_every_weighted_sum_is_that_of_the_folded_adapters(twins: Twins, logits: Logits, combination: str) -> None:
    outputs = []
    for model in twins:
        before = {name: (tensor.clone(), tensor.requires_grad) for name, tensor in model.named_parameters()}
        torch.manual_seed(3)  # "dare" draws
        names, weights = ["default", "fly"], [0.5, 0.7]
        model.add_weighted_adapter(names, weights, "sum", combination_type=combination, density=0.5, svd_rank=8)
        after = dict(model.named_parameters())
        assert all(torch.equal(after[name], tensor) for name, (tensor, _) in before.items())
        assert not has_mixer(model, "sum")
        assert type(model.peft_config["sum"]) is LoraConfig
        model.set_adapter("sum")
        outputs.append(logits(model))
    assert gap(*outputs) < 1e-4
    mixed = twins[0]
    assert isinstance(mixed.peft_config["default"], MosLoraConfig)
    assert has_mixer(mixed, "default")
    assert has_mixer(mixed, "fly")


def test_states_and_rows_and_merges_are_those_of_the_folded_adapters(twins: Twins, logits: Logits) -> None:
    mixed, plain = twins
    assert gap(logits(mixed, adapter_names=["fly", "default"]), logits(plain, adapter_names=["fly", "default"])) < 1e-6
    assert (
        gap(logits(mixed, adapter_names=["__base__", "fly"]), logits(plain, adapter_names=["__base__", "fly"])) < 1e-6
    )
    for active in (["default"], ["fly"], ["default", "fly"]):
        for model in twins:
            model.base_model.set_adapter(active)
        assert gap(logits(mixed), logits(plain)) < 1e-6
        wanted = logits(mixed)
        for safe in (True, False):
            mixed.merge_adapter(safe_merge=safe)
            assert gap(logits(mixed), wanted) < 1e-5
            mixed.unmerge_adapter()
            assert gap(logits(mixed), wanted) < 1e-5
    for model in twins:
        model.delete_adapter("default")
        model.set_adapter("fly")
    assert gap(logits(mixed), logits(plain)) < 1e-6
    status = mixed.get_model_status()
    assert status.available_adapters == ["fly"]
    assert status.num_adapter_layers == plain.get_model_status().num_adapter_layers


class OneLayer(nn.Module):
    def __init__(self, proj: nn.Module) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_a_quantised_layer_have_their_own_adapters(bits: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    proj: Any = (
        bnb.nn.Linear4bit(64, 32, compute_dtype=torch.float32, quant_type="nf4")
        if bits == 4
        else bnb.nn.Linear8bitLt(64, 32, has_fp16_weights=False)
    )
    proj.load_state_dict(nn.Linear(64, 32).state_dict())
    model = OneLayer(proj).to("cpu")
    setattr(model, f"is_loaded_in_{bits}bit", True)
    model = get_peft_model(model, MosLoraConfig(r=4, target_modules=["proj"]))
    model.add_adapter("fly", MosLoraConfig(r=4, target_modules=["proj"], mixer="butterfly"))
    model.add_adapter("plain", LoraConfig(r=4, target_modules=["proj"]))
    layer = model.base_model.model.proj
    for lora_b in layer.lora_B.values():
        lora_b.weight.data.normal_()
    x = torch.randn(4, 64, dtype=dtype)
    names = ["plain", "default", "__base__", "fly"]
    model.train()  # in eval mode bitsandbytes takes another kernel on a CPU
    rows = []
    with torch.no_grad():
        for row, name in enumerate(names):
            if name == "__base__":
                rows.append(layer.base_layer(x)[row])
            else:
                layer.set_adapter([name])
                rows.append(layer(x)[row])
        model.eval()
        found = layer(x, adapter_names=names)
    assert gap(found, torch.stack(rows)) < 2e-2


def test_a_layer_of_mixed_and_plain_adapters_keeps_both_through_deletion(twins: Twins) -> None:
    model = twins[0]
    model.add_adapter("plain", LoraConfig(r=4, target_modules=["q_proj"]))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert list(layer.lora_variant) == list(layer.lora_AB) == ["default", "fly"]
    model.delete_adapter("default")
    assert list(layer.lora_variant) == list(layer.lora_AB) == ["fly"]
    model.delete_adapter("fly")
    assert not layer.lora_variant
    assert not layer.lora_AB
    x = torch.randn(3, 32)
    layer.lora_B["plain"].weight.data.normal_()
    model.set_adapter("plain")
    wanted = layer.base_layer(x) + x @ layer.get_delta_weight("plain").T
    assert gap(layer(x), wanted) < 1e-6
