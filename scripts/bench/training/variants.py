"""The ways of training that are held against each other, on one copy of the frozen weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from xtuner.model import LLaVAModel

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.model import MosLoraLLaVA

from .shapes import CLIP_TARGETS, Shape

DROPOUT = 0.05
HEAD = {"chunked_loss": True, "skip_padding_mask": True}
FAST = {**HEAD, "fused_adapters": True, "lean_mlp": True}


@dataclass(frozen=True)
class Variant:
    """One way.

    Attributes:
        build: the model from shape, language model, visual encoder.
        stock: whether it takes XTuner's form of a batch.
        method: of MIXERS.
        options: the model's fields that say how it keeps less.
    """

    build: Callable[[Shape, Any, Any], nn.Module]
    stock: bool
    method: str
    options: dict[str, Any]


MIXERS: dict[str, tuple[Any, dict[str, str]]] = {
    "lora": (LoraConfig, {}),
    "moslora": (MosLoraConfig, {"mixer": "learned", "mixer_init": "orthogonal"}),
    "ts_mixing": (MosLoraConfig, {"mixer": "butterfly"}),
}


def adapters(shape: Shape, method: str) -> dict[str, LoraConfig]:
    """The two configs of Table 8, with what `method` puts between A and B."""
    kind, mixer = MIXERS[method]
    shared: dict[str, Any] = {"lora_dropout": DROPOUT, "bias": "none", **mixer}
    return {
        "llm_lora": kind(
            r=shape.r, lora_alpha=shape.alpha, target_modules=list(shape.targets), task_type="CAUSAL_LM", **shared
        ),
        "visual_encoder_lora": kind(r=shape.visual_r, lora_alpha=16, target_modules=list(CLIP_TARGETS), **shared),
    }


def _build(kind: Any, method: str, checkpointing: bool, **options: Any) -> Callable[[Shape, Any, Any], nn.Module]:
    def build(shape: Shape, llm: Any, visual_encoder: Any) -> nn.Module:
        torch.manual_seed(2)
        return kind(
            llm=llm,
            visual_encoder=visual_encoder,
            freeze_llm=True,
            freeze_visual_encoder=True,
            use_activation_checkpointing=checkpointing,
            **options,
            **adapters(shape, method),
        )

    return build


def _ours(method: str, checkpointing: bool = True, **options: Any) -> Variant:
    said = {"use_activation_checkpointing": checkpointing, **options}
    return Variant(_build(MosLoraLLaVA, method, checkpointing, **options), False, method, said)


VARIANTS = {
    "stock_lora": Variant(_build(LLaVAModel, "lora", True), True, "lora", {}),
    "lora": _ours("lora"),
    "moslora": _ours("moslora"),
    "moslora_head": _ours("moslora", **HEAD),
    "lora_fast": _ours("lora", **FAST),
    "moslora_fast": _ours("moslora", **FAST),
    "ts_mixing_fast": _ours("ts_mixing", **FAST),
    "lora_kept": _ours("lora", False),
    "moslora_kept": _ours("moslora", False),
    "moslora_head_kept": _ours("moslora", False, **HEAD),
    "lora_fast_kept": _ours("lora", False, **FAST),
    "moslora_fast_kept": _ours("moslora", False, **FAST),
}


def make(variant: Variant, shape: Shape, llm: Any, visual_encoder: Any, dtype: torch.dtype) -> nn.Module:
    """The variant's model; the frozen weights are those of `llm` and `visual_encoder`, not copies of them.

    DeepSpeed's bf16 makes all that is trained bf16, and so it is done here; XTuner's copy of the frozen weights into
    float32, which DeepSpeed takes back too, is undone.
    """
    model = variant.build(shape, _shared(llm), _shared(visual_encoder))
    device = next(llm.parameters()).device
    return model.to(device=device, dtype=dtype).train()


def _shared(model: nn.Module) -> nn.Module:
    """A copy of the modules around the same tensors."""
    kept = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in kept})


def decoder(model: nn.Module) -> tuple[nn.Module, nn.ModuleList]:
    """The module that holds the decoder layers, and those."""
    for module in model.llm.modules():  # type: ignore[union-attr]
        layers = getattr(module, "layers", None)
        if isinstance(layers, nn.ModuleList):
            return module, layers
    raise SystemExit("error: the language model has no list of layers")
