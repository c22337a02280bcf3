"""Weights as 4- and 8-bit layers compute with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.four_bit import compute_as_in_training


@torch.no_grad()
def quantise(blocks: nn.Module, settings: Mapping[str, Any]) -> None:
    """Put bitsandbytes' layers in the place of the linear ones, as `from_pretrained` did for the training.

    What they hold is made from the weights in the number type that they have now; they compute in float32.

    Args:
        blocks: a module with weights, in place.
        settings: of the training's BitsAndBytesConfig.
    """
    import bitsandbytes
    from transformers import BitsAndBytesConfig
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    config = BitsAndBytesConfig.from_dict({**settings, "bnb_4bit_compute_dtype": "float32"})
    before = {name: module for name, module in blocks.named_modules() if isinstance(module, nn.Linear)}
    replace_with_bnb_linear(blocks, config.llm_int8_skip_modules or [], quantization_config=config)
    for name, module in blocks.named_modules():
        plain = before.get(name)
        if plain is None or module is plain:
            continue
        made: Any = module
        kind: Any = (
            bitsandbytes.nn.Params4bit if isinstance(made, bitsandbytes.nn.Linear4bit) else bitsandbytes.nn.Int8Params
        )
        options = {k: v for k, v in vars(made.weight).items() if k not in ("CB", "SCB")}
        made.weight = kind(plain.weight.data, requires_grad=False, **options).to("cpu")
        if plain.bias is not None:
            made.bias = nn.Parameter(plain.bias.data, requires_grad=False)
    compute_as_in_training(blocks)


@torch.no_grad()
def dequantised(blocks: nn.Module) -> dict[str, Tensor]:
    """The weight of each quantised layer as it takes part in a product, by the layer's name."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt
    from peft.utils.integrations import dequantize_module_weight

    return {
        name: dequantize_module_weight(module).detach()
        for name, module in blocks.named_modules()
        if isinstance(module, Linear4bit | Linear8bitLt)
    }
