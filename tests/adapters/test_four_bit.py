"""4-bit layers on a CPU: the same product with and without a gradient, and a weight that stays what it was."""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import _convert_weight_packed_for_cpu, has_avx512bf16
from peft import LoraConfig, get_peft_model
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.adapters.four_bit import compute_as_in_training
from moslora_xtuner.errors import AdapterError


def four_bit_model() -> tuple[nn.Module, Tensor]:
    """A model of one NF4 layer, and the weight that it computes with."""
    torch.manual_seed(0)
    layer: Any = bnb.nn.Linear4bit(64, 128, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(torch.randn(128, 64), requires_grad=False, quant_type="nf4").to("cpu")
    return nn.Sequential(layer), dequantize_module_weight(layer).clone()


def pack(layer: Any) -> None:
    """What such a processor's first product without a gradient does to the layer."""
    layer.weight.data, layer.weight.quant_state = _convert_weight_packed_for_cpu(
        layer.weight.data, layer.weight.quant_state
    )


def test_the_product_is_that_of_the_dequantised_weight() -> None:
    model, weight = four_bit_model()
    compute_as_in_training(model)
    x = torch.randn(5, 64)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), nn.functional.linear(x, weight))
    assert torch.equal(dequantize_module_weight(model[0]), weight)


def test_an_adapter_with_a_mixer_computes_on_what_it_was_trained_on() -> None:
    base, weight = four_bit_model()
    model: Any = get_peft_model(base, MosLoraConfig(r=4, target_modules=["0"], init_lora_weights=False))
    x = torch.randn(5, 64)
    trained = model.train()(x)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), trained)
    layer = model.base_model.model[0]
    assert torch.equal(dequantize_module_weight(layer.get_base_layer()), weight)


def test_a_layer_whose_scales_are_rounded_already_gets_no_mixer() -> None:
    base, _ = four_bit_model()
    pack(base[0])
    with pytest.raises(AdapterError, match="has rounded its scales: load the model again"):
        get_peft_model(base, MosLoraConfig(r=4, target_modules=["0"]))


@pytest.mark.skipif(not has_avx512bf16(), reason="this processor has no AVX512-BF16: bitsandbytes does not pack here")
def test_what_is_worked_around_is_still_there() -> None:
    """Fails when bitsandbytes has mended it: then four_bit.py can go."""
    model, weight = four_bit_model()
    stock: Any = get_peft_model(model, LoraConfig(r=4, target_modules=["0"]))
    with torch.no_grad():
        assert not torch.allclose(stock.eval()(torch.eye(64)), weight.T, atol=1e-4)
    assert getattr(model[0].get_base_layer().weight.quant_state, "packing_format_for_cpu", False)
