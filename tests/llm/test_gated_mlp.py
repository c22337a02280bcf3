"""The lean MLP beside the stock one of each family: the same bits, fewer of them kept."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP
from xtuner._lite.modelings.internlm2.configuration_internlm2 import InternLM2Config
from xtuner._lite.modelings.internlm2.modeling_internlm2 import InternLM2MLP

from moslora_xtuner.llm.gated_mlp import GatedProduct, keep_less_of_mlps

SIZES = {"hidden_size": 16, "intermediate_size": 40}
MLPS = {"llama": lambda: LlamaMLP(LlamaConfig(**SIZES)), "internlm2": lambda: InternLM2MLP(InternLM2Config(**SIZES))}


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(GatedProduct.apply, given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", MLPS)
def test_bit_for_bit_the_stock_mlp_with_an_inner_width_less_to_keep(family: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    stock: Any = MLPS[family]().to(dtype)
    lean = copy.deepcopy(stock)
    assert keep_less_of_mlps(nn.Sequential(lean)) == 1
    made, kept = [], []
    for mlp in (stock, lean):
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        torch.manual_seed(1)
        x = torch.randn(2, 7, 16).to(dtype).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = mlp(x)
        y.backward(torch.randn(y.shape).to(dtype))
        made.append([y, x.grad, *(p.grad for p in mlp.parameters())])
        kept.append(sum(sizes.values()))
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))
    assert kept[0] - kept[1] == 2 * 7 * 40


def test_another_activation_or_a_forward_of_somebody_elses_is_left_alone() -> None:
    gelu, patched = LlamaMLP(LlamaConfig(**SIZES, hidden_act="gelu")), LlamaMLP(LlamaConfig(**SIZES))
    patched.forward = lambda x: x  # type: ignore[method-assign]
    assert keep_less_of_mlps(nn.ModuleList([gelu, patched])) == 0
    assert type(gelu) is LlamaMLP
    assert type(patched) is LlamaMLP
