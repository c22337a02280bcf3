"""LLaVA models of the real sizes with random weights, made on the device: nothing is read from a disk.

The figures are those of the published configs (meta-llama/Meta-Llama-3-8B-Instruct, Llama-3.2-1B,
internlm/internlm2-chat-7b, openai/clip-vit-large-patch14-336).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
LLAMA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
INTERNLM2_TARGETS = ("wqkv", "wo", "w1", "w2", "w3")
CLIP_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True)
class Shape:
    """A language model, its visual encoder, and what Table 8 of the paper tunes them with.

    Attributes:
        llm: fields of the language model's config.
        family: `llama` or `internlm2`.
        vision: fields of a CLIPVisionConfig.
        r, alpha: of the language model's adapter; the visual encoder has 64 and 16, or what fits.
        four_bits: NF4 with double quantisation.
        rows: records of a micro-batch.
        tokens: of the longest record of that micro-batch, the picture's included.
    """

    name: str
    llm: dict[str, Any]
    family: str
    vision: dict[str, Any]
    r: int
    alpha: int
    visual_r: int
    four_bits: bool
    rows: int
    tokens: int

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return int(self.llm["num_hidden_layers"])

    @property
    def patches(self) -> int:
        """Places of the language model that a picture takes."""
        return int((self.vision["image_size"] // self.vision["patch_size"]) ** 2)

    @property
    def targets(self) -> tuple[str, ...]:
        """The language model's adapted layers."""
        return LLAMA_TARGETS if self.family == "llama" else INTERNLM2_TARGETS

    def cut(self, layers: int | None, rows: int | None, tokens: int | None) -> Shape:
        """With fewer layers (of both models, in proportion) or another micro-batch."""
        llm, vision = dict(self.llm), dict(self.vision)
        if layers is not None and layers < self.layers:
            llm["num_hidden_layers"] = layers
            vision["num_hidden_layers"] = max(2, vision["num_hidden_layers"] * layers // self.layers)
        return replace(self, llm=llm, vision=vision, rows=rows or self.rows, tokens=tokens or self.tokens)


def _llm(hidden: int, intermediate: int, layers: int, heads: int, groups: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
    }


_TINY_CLIP = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 112,
    "patch_size": 14,
}
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny", _llm(256, 896, 4, 8, 2, 8192), "llama", _TINY_CLIP, 16, 32, 16, False, 8, 160),
        Shape("tiny-internlm2", _llm(256, 896, 2, 8, 2, 2048), "internlm2", _TINY_CLIP, 64, 32, 16, True, 8, 160),
        Shape("1b", _llm(2048, 8192, 16, 32, 8, 128256), "llama", CLIP_L_336, 64, 128, 64, False, 8, 832),
        Shape("llama3-8b", _llm(4096, 14336, 32, 32, 8, 128256), "llama", CLIP_L_336, 64, 128, 64, False, 8, 832),
        Shape(
            "internlm2-7b", _llm(4096, 14336, 32, 32, 8, 92544), "internlm2", CLIP_L_336, 512, 256, 64, True, 16, 832
        ),
    )
}
"""tiny has LLaMA-3's proportions at a sixteenth of its width.

832 tokens: the longest of 8 records that the length-grouped sampler puts together at the mix's mean of about 800.
"""


def build_llm(shape: Shape, dtype: torch.dtype, device: torch.device) -> Any:
    """The language model with random weights in its compute dtype, its linear layers in 4 bits where said so."""
    torch.manual_seed(0)
    kind, config = llm_class(shape)
    with made_on(dtype, device):
        model = kind(config).eval()
    if shape.four_bits:
        _quantise(model, dtype, device)
    return model


def llm_class(shape: Shape) -> tuple[Any, Any]:
    """The class and its config."""
    if shape.family == "llama":
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(rope_theta=500000.0, attn_implementation="sdpa", **shape.llm)
        return LlamaForCausalLM, config
    from xtuner._lite.modelings.internlm2 import InternLM2Config, InternLM2ForCausalLM

    config = InternLM2Config(bias=False, rope_theta=1e6, **shape.llm)
    config.attn_implementation = "sdpa"
    return InternLM2ForCausalLM, config


def build_visual_encoder(shape: Shape, dtype: torch.dtype, device: torch.device) -> Any:
    """A CLIPVisionModel with random weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(1)
    with made_on(dtype, device):
        return CLIPVisionModel(CLIPVisionConfig(**shape.vision)).eval()


class made_on:
    """Makes tensors of a dtype on a device."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device

    def __enter__(self) -> None:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        self.device.__enter__()

    def __exit__(self, *fault: Any) -> None:
        self.device.__exit__(*fault)
        torch.set_default_dtype(self.before)


def _quantise(model: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Put Linear4bit in the place of every Linear but the head, as `from_pretrained` does with `load_in_4bit`."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Linear or name == "output":
            continue
        made = Linear4bit(
            layer.in_features, layer.out_features, bias=False, compute_dtype=dtype, quant_type="nf4",
            compress_statistics=True, device="meta",
        )  # fmt: skip
        made.weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True).to(
            device
        )
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, made)
    model.is_loaded_in_4bit = True
    model.quantization_method = "bitsandbytes"
