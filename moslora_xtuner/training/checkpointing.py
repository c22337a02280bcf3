"""Activation checkpointing of some decoder blocks: the first n are computed again in backward, the others are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..errors import ConfigError

BY_PLAN = "plan"
"""The value of `model.checkpointed_blocks` with which `moslora train` puts in the number that its plan found."""


def checkpoint_first(llm: nn.Module, blocks: int) -> None:
    """Checkpoint the first `blocks` decoder blocks of a model that checkpoints all of them, and no other.

    The first, since backward reaches them last: when one of them is computed again, the activations of all blocks that
    were kept are gone, so that the two never add up.

    Args:
        llm: one of Hugging Face's models, or one built like them: its decoder calls each block through
            `_gradient_checkpointing_func` (transformers/modeling_utils.py).

    Raises:
        ConfigError: more blocks than it has, or fewer than none.
        ValueError: nothing in it checkpoints blocks.
    """
    decoder = _decoder(llm)
    if not 0 <= blocks <= len(decoder.layers):
        raise ConfigError(f"model.checkpointed_blocks is {blocks}: the language model has {len(decoder.layers)} blocks")
    if not blocks:
        decoder.gradient_checkpointing = False
        return
    checkpoint: Callable[..., Any] = decoder._gradient_checkpointing_func
    chosen = {id(block) for block in decoder.layers[:blocks]}

    def some(function: Any, *given: Any, **named: Any) -> Any:
        return (checkpoint if id(function.__self__) in chosen else _kept)(function, *given, **named)

    decoder._gradient_checkpointing_func = some


def _kept(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    return function(*given, **named)


def _decoder(llm: nn.Module) -> Any:
    for module in llm.modules():
        if getattr(module, "gradient_checkpointing", False) and isinstance(
            getattr(module, "layers", None), nn.ModuleList
        ):
            return module
    raise ValueError(f"{type(llm).__name__} has no decoder that checkpoints its blocks")
