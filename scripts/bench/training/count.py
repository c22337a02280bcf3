"""What a decoder layer and the head cost, counted: bytes kept for backward, operations, bytes of the head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .batch import SUPERVISED
from .memory import peak_of, saved_bytes
from .shapes import Shape
from .variants import decoder

IGNORED = -100


def saved_per_token(model: Any, shape: Shape, *, autocast: bool, tokens: int = 64) -> float:
    """Bytes that one decoder layer keeps for each token, in bf16.

    With `autocast` the adapter is float32, as PEFT makes it, under bf16 autocast; without, it is bf16 too, as
    DeepSpeed makes it. Counted as what a model of one layer keeps more than one of none, and of that what doubling
    the rows adds, so that neither the head nor what does not grow with the tokens counts.
    """
    layer = [parameter for parameter in model.llm.parameters() if parameter.requires_grad]
    before = [parameter.dtype for parameter in layer]
    weights = {p.dtype for p in model.llm.parameters() if not p.requires_grad and p.is_floating_point()}
    # Frozen float32 weights would be cast, and the casts kept: a bf16 model has none of either.
    if weights - {torch.bfloat16}:
        raise ValueError(f"the frozen weights are {weights}, not bf16")
    try:
        for parameter in layer:
            parameter.data = parameter.data.to(torch.float32 if autocast else torch.bfloat16)
        with without_checkpoints(model):
            made = {
                (layers, rows): _saved(model, shape, layers, rows, tokens, autocast)
                for layers in (0, 1)
                for rows in (1, 2)
            }
    finally:
        for parameter, dtype in zip(layer, before, strict=True):
            parameter.data = parameter.data.to(dtype)
    return ((made[1, 2] - made[1, 1]) - (made[0, 2] - made[0, 1])) / tokens


def _saved(model: Any, shape: Shape, layers: int, rows: int, tokens: int, autocast: bool) -> int:
    device = next(model.parameters()).device
    hidden = torch.zeros(rows, tokens, shape.llm["hidden_size"], device=device, dtype=torch.bfloat16)
    cast = torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext()
    with only(model, layers), saved_bytes() as sizes, cast:
        model.llm(inputs_embeds=hidden.requires_grad_())
    return sum(sizes.values())


def layer_operations(model: Any, shape: Shape, dtype: torch.dtype, tokens: int = 64) -> int:
    """Floating-point operations of one decoder layer for each token, forward and backward, computed once each."""
    device = next(model.parameters()).device

    def run(layers: int) -> int:
        hidden = torch.zeros(1, tokens, shape.llm["hidden_size"], device=device, dtype=dtype)
        with only(model, layers), FlopCounterMode(display=False) as counter:
            model.llm(inputs_embeds=hidden.requires_grad_()).logits.sum().backward()
        model.zero_grad(set_to_none=True)
        return int(counter.get_total_flops())

    with without_checkpoints(model):
        return (run(1) - run(0)) // tokens


def head_bytes(model: Any, shape: Shape, dtype: torch.dtype) -> int:
    """The most memory that head and loss take above the hidden states, forward and backward, of one micro-batch."""
    device = next(model.parameters()).device
    hidden = torch.randn(shape.rows, shape.tokens, shape.llm["hidden_size"], device=device, dtype=dtype)
    labels = torch.full((shape.rows, shape.tokens), IGNORED, device=device)
    labels[:, -round(SUPERVISED * shape.tokens) :] = 7
    with only(model, 0), peak_of(device) as peak:
        loss = model.compute_loss({"inputs_embeds": hidden.requires_grad_(), "labels": labels})["loss"]
        loss.backward()
        del loss
    model.zero_grad(set_to_none=True)
    return peak.above


def step_operations(step: Callable[[], Any]) -> int:
    """Operations of a whole step, what checkpointing computes again included."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


@contextmanager
def only(model: Any, layers: int) -> Iterator[None]:
    """The language model with its first layers alone."""
    holder, whole = decoder(model)
    holder.layers = whole[:layers]
    try:
        yield
    finally:
        holder.layers = whole


@contextmanager
def without_checkpoints(model: Any) -> Iterator[None]:
    """Activation checkpointing off, where it was on."""
    switched: list[Any] = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    for module in switched:
        module.gradient_checkpointing = False
    try:
        yield
    finally:
        for module in switched:
            module.gradient_checkpointing = True
