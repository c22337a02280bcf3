"""The number format in which a model answers."""

from __future__ import annotations

from enum import Enum
from typing import Any


def gpu_names() -> list[str]:
    """Of all GPUs that this process sees."""
    import torch

    return [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]


class Precision(str, Enum):
    """fp32, bf16 or fp16; or 4-bit: NF4 with double quantisation of the language model's linear layers.

    In 4 bits the visual encoder, the projector and the head stay in the format that is computed in (bf16 on a GPU,
    fp32 on a CPU): the same split as in training with 4-bit recipes.
    """

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    four_bit = "4bit"

    @classmethod
    def default(cls, device: str) -> Precision:
        """bf16 on a GPU, fp32 on a CPU, where half precision is slower."""
        return cls.fp32 if device == "cpu" else cls.bf16

    def loading(self, device: str) -> dict[str, Any]:
        """Keyword arguments of `from_pretrained`."""
        import torch

        computed = torch.float32 if device == "cpu" else torch.bfloat16
        if self is not Precision.four_bit:
            names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
            return {"torch_dtype": names[self.value]}
        from transformers import BitsAndBytesConfig

        if device == "cpu":
            from moslora_xtuner.llm.quantise_on_cpu import quantise_on_cpu

            quantise_on_cpu()
        quantisation = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=computed,
            llm_int8_skip_modules=["vision_tower", "multi_modal_projector", "lm_head"],
        )
        return {"quantization_config": quantisation, "torch_dtype": computed, "device_map": {"": device}}


def rounding(batch_size: int) -> str:
    """What may round otherwise: the batch, the device and the libraries."""
    import torch
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return f"batch {batch_size} {device} torch {torch.__version__} transformers {transformers.__version__}"
