"""A two-layer LLaMA, its inputs, and adapter weights as after training."""

from __future__ import annotations

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

IDS = torch.tensor([[1, 5, 9, 2, 7, 3, 11, 4], [3, 3, 8, 40, 22, 17, 6, 1]])
LLAMA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"]


def build_llama(seed: int = 0) -> LlamaForCausalLM:
    """A two-layer LLaMA with grouped-query attention, the same for the same seed."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def randomise(model: nn.Module, seed: int = 1) -> nn.Module:
    """Give every adapter parameter a value as after training (B starts at zero)."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name and "magnitude" not in name:
            # So scaled, the deltas are as large as W0 (0.02): well seen, and no chaos from layer to layer.
            noise = torch.randn(parameter.shape, generator=generator) * 0.4 / parameter.shape[-1] ** 0.5
            parameter.data.copy_(noise)
    return model
