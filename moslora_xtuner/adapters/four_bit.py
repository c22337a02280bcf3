"""4-bit layers that compute on a CPU what they compute in training."""

from __future__ import annotations

import sys

from torch import nn

from ..errors import AdapterError


def compute_as_in_training(model: nn.Module) -> None:
    """WORK-AROUND bitsandbytes 0.50.2 (nn/modules.py, Linear4bit): on a CPU with AVX512-BF16 it computes in bfloat16.

    In `eval` and without a gradient, whatever its compute dtype: a float32 product is off by 1e-2 of its scale. It
    packs the weight for that, in place: the scales are rounded to bfloat16 for good, and dequantising gives another
    weight altogether, so that PEFT merges into noise. Here no Linear4bit of `model` does so; on other processors and
    on a GPU nothing changes. Can go when that path asks for the compute dtype and `dequantize_4bit` reads packed
    weights.

    Raises:
        AdapterError: a layer is packed already.
    """
    if "bitsandbytes" not in sys.modules:  # then there is no such layer, and importing it takes seconds
        return
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if not isinstance(module, Linear4bit):
            continue
        module.support_avx512bf16_for_cpu = False
        if getattr(getattr(module.weight, "quant_state", None), "packing_format_for_cpu", False):
            raise AdapterError(
                "a 4-bit layer of this model has computed without a gradient on the CPU, and bitsandbytes has rounded "
                "its scales: load the model again, and give it its adapter before anything is computed"
            )
