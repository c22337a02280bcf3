"""torchao's quantize_ on an adapted model: A and B are Linear layers to it, and the mixer stays between them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter

torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed")

KINDS: list[dict[str, object]] = [{}, {"freeze_mixer": True}, {"mixer": "butterfly"}]


def gap(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("settings", KINDS)
def test_a_quantised_model_loses_what_stock_lora_loses(
    saved: Callable[..., tuple[PeftModel, Path]],
    llama: Callable[..., nn.Module],
    logits: Callable[..., Tensor],
    tmp_path: Path,
    settings: dict[str, object],
) -> None:
    model, folder = saved(**settings)
    folded = PeftModel.from_pretrained(llama(), str(fold_adapter(folder, tmp_path / "folded"))).eval()
    wanted = logits(model)
    with model.disable_adapter():
        assert gap(logits(model), wanted) > 0.2
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    torchao.quantize_(folded, torchao.Int8WeightOnlyConfig())
    stock = gap(logits(folded), wanted)
    assert 0 < stock < 0.05
    assert 0 < gap(logits(model), wanted) < 2 * stock


@pytest.mark.parametrize("settings", KINDS)
def test_a_mixed_adapter_over_a_quantised_base(
    llama: Callable[..., nn.Module], logits: Callable[..., Tensor], settings: dict[str, object]
) -> None:
    base = llama()
    torchao.quantize_(base, torchao.Int8WeightOnlyConfig())
    targets = ["q_proj", "down_proj"]
    try:
        get_peft_model(copy.deepcopy(base), LoraConfig(r=4, target_modules=targets))
    except TypeError as error:
        if "get_apply_tensor_subclass" not in str(error):
            raise
        pytest.skip("this peft adapts a torchao base that transformers has loaded, and no other")
    model = get_peft_model(base, MosLoraConfig(r=4, lora_alpha=8, target_modules=targets, **settings)).eval()
    layer = model.base_model.model.model.layers[0].mlp.down_proj
    layer.lora_B["default"].weight.data.normal_()
    x = torch.randn(3, 48)
    with torch.no_grad():
        wanted = layer.base_layer(x) + x @ layer.get_delta_weight("default").T
        assert gap(layer(x), wanted) < 1e-6
