"""How often each block is computed, and that nothing else changes."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from small_llama import IDS, build_llama
from torch import nn
from xtuner._lite.modelings.internlm2.configuration_internlm2 import InternLM2Config
from xtuner._lite.modelings.internlm2.modeling_internlm2 import InternLM2ForCausalLM

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.training.checkpointing import checkpoint_first


def llama() -> Any:
    return build_llama()


def internlm2() -> Any:
    torch.manual_seed(0)
    return InternLM2ForCausalLM(
        InternLM2Config(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, bias=False, attn_implementation="eager", pad_token_id=0,
        )
    )  # fmt: skip


def trained_step(model: Any) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Gradients of one step, and how often each block was computed for it."""
    model.train()
    calls: Counter[int] = Counter()
    blocks = next(m.layers for m in model.modules() if isinstance(getattr(m, "layers", None), nn.ModuleList))
    for place, block in enumerate(blocks):
        block.register_forward_hook(lambda *_, place=place: calls.update([place]))
    model(input_ids=IDS, labels=IDS).loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return gradients, [calls[place] for place in range(len(blocks))]


@pytest.mark.parametrize("build", [llama, internlm2])
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_the_first_blocks_are_computed_twice_and_the_gradients_stay(build: Any, blocks: int) -> None:
    model = build()
    model.enable_input_require_grads()
    wanted, plain = trained_step(copy.deepcopy(model))
    model.gradient_checkpointing_enable()
    checkpoint_first(model, blocks)
    found, calls = trained_step(model)
    assert plain == [1, 1]
    assert calls == [2] * blocks + [1] * (2 - blocks)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())


@pytest.mark.parametrize("blocks", [-1, 3])
def test_another_number_than_the_blocks_is_refused(blocks: int) -> None:
    model = build_llama()
    model.gradient_checkpointing_enable()
    with pytest.raises(ConfigError, match=f"checkpointed_blocks is {blocks}: the language model has 2 blocks"):
        checkpoint_first(model, blocks)


def test_a_model_that_checkpoints_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no decoder that checkpoints"):
        checkpoint_first(build_llama(), 1)
