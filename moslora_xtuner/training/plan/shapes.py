"""A run's model on the meta device: its real shapes and adapters without a single weight."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn

_BLOCK = re.compile(r"(?:^|\.)layers\.(\d+)\.")


@dataclass(frozen=True)
class Adapted:
    """One adapted linear layer: its name, block, sizes and rank.

    `dense` says that each forward makes a whole matrix of the base weight's size: LoHa, LoKr, and DoRA for its norm;
    `keeps` that it is kept for backward.
    """

    name: str
    block: int
    inputs: int
    outputs: int
    rank: int
    mixed: bool
    dropout: bool
    dense: bool = False
    keeps: bool = False


@dataclass(frozen=True)
class Part:
    """The language model or the visual encoder.

    Attributes:
        hidden, intermediate, layers, vocabulary: sizes; vocabulary is 0 for the visual encoder.
        parameters: all weights but the adapters'.
        linear: those of linear layers inside the blocks, which 4-bit quantisation takes.
        trainable: the adapters' weights.
        adapted: the adapted layers.
    """

    hidden: int
    intermediate: int
    layers: int
    vocabulary: int
    parameters: int
    linear: int
    trainable: int
    adapted: tuple[Adapted, ...]

    @property
    def widest(self) -> tuple[Adapted, ...]:
        """The adapted layers of one block; all blocks that have any have the same."""
        return tuple(layer for layer in self.adapted if layer.block == self.adapted[0].block) if self.adapted else ()


NOTHING = Part(0, 0, 0, 0, 0, 0, 0, ())
"""The visual encoder of a model that has none."""


def part(model: Any, adapters: Any = None) -> Part:
    """The shapes of a model on the meta device, with adapters of a PEFT config.

    Raises:
        ConfigError: PEFT or the adapter refuses the config.
        ValueError: no layer has a name that the config targets (PEFT's own).
    """
    from peft import get_peft_model

    config: Any = model.config
    weights = sum(p.numel() for p in model.parameters())
    linear = sum(m.weight.numel() for n, m in model.named_modules() if isinstance(m, nn.Linear) and _BLOCK.search(n))
    adapted: tuple[Adapted, ...] = ()
    trainable = 0
    if adapters is not None:
        model.requires_grad_(False)
        with torch.device("meta"):
            tuned = get_peft_model(model, adapters)
        trainable = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
        adapted = tuple(_adapted(tuned))
    return Part(
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        layers=config.num_hidden_layers,
        vocabulary=getattr(config, "vocab_size", 0) if hasattr(config, "num_key_value_heads") else 0,
        parameters=weights,
        linear=linear,
        trainable=trainable,
        adapted=adapted,
    )


def _adapted(model: PeftModel) -> list[Adapted]:
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lycoris_utils import LycorisLayer

    from ...adapters import has_mixer

    found = []
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer | LycorisLayer) and isinstance(layer, nn.Module):
            block = _BLOCK.search(name)
            base: Any = layer.get_base_layer()
            found.append(
                Adapted(
                    name=name.removeprefix("base_model.model."),
                    block=int(block[1]) if block else -1,
                    inputs=int(base.in_features),
                    outputs=int(base.out_features),
                    rank=layer.r["default"],
                    mixed=has_mixer(layer),
                    dropout=isinstance(layer, LoraLayer) and not isinstance(layer.lora_dropout["default"], nn.Identity),
                    dense=isinstance(layer, LycorisLayer) or _is_dora(layer),
                    keeps=isinstance(layer, LycorisLayer),
                )
            )
    return found


def _is_dora(layer: Any) -> bool:
    return len(getattr(layer, "lora_magnitude_vector", ())) > 0
