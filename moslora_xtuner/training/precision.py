"""The number type that a machine trains large models in."""

from __future__ import annotations

from typing import Any

QUANTISED_ZERO3 = (
    "a model in 4 bits cannot be cut up by ZeRO-3 here: use zero2 (the weights of 7B take 4 GB on each GPU), "
    "or take quantization_config out"
)


def compute_dtype() -> str:
    """`torch.bfloat16` where the GPU has it, `torch.float16` on an older GPU, `torch.float32` without one.

    ZeRO on gloo takes no half precision, and a model that a CPU can train is small.
    """
    import torch

    if not torch.cuda.is_available():
        return "torch.float32"
    return "torch.bfloat16" if torch.cuda.is_bf16_supported() else "torch.float16"


def nf4() -> dict[str, Any]:
    """QLoRA's 4 bits for a config: NF4 with double quantisation, computed in `compute_dtype` (arXiv 2305.14314)."""
    return {
        "type": "transformers.BitsAndBytesConfig",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": compute_dtype().removeprefix("torch."),
    }


def quantised_bits(part: Any) -> int | None:
    """The bits that bitsandbytes quantised a model's weights to, or None."""
    if getattr(part, "is_loaded_in_4bit", False):
        return 4
    return 8 if getattr(part, "is_loaded_in_8bit", False) else None
