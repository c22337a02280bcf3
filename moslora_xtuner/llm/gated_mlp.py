"""The gated product of a decoder's MLP, of which backward keeps two tensors and not three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

INNER = {
    "LlamaMLP": ("gate_proj", "up_proj", "down_proj"),
    "InternLM2MLP": ("w1", "w3", "w2"),
}
"""The names of gate, up and down in the classes whose forward is down(act(gate(x)) * up(x)) and nothing else."""


class GatedProduct(torch.autograd.Function):
    """silu(g) * u, bit for bit as two operations give it, with their gradients; g, u: (..., I).

    Two operations keep g, u and silu(g). This keeps g and u, and takes silu(g) again in backward::

        du = dy silu(g)        dg = dy u silu'(g),   silu'(g) = sigmoid(g) (1 + g (1 - sigmoid(g)))
    """

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate) * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), F.silu(gate).mul_(grad)


def keep_less_of_mlps(llm: nn.Module) -> int:
    """Let every MLP of a language model compute its gated product as `GatedProduct`; how many there are.

    An MLP of another class, with another activation, or whose forward somebody has replaced stays as it is.
    """
    count = 0
    for module in llm.modules():
        names = INNER.get(type(module).__name__)
        if names is not None and "forward" not in vars(module) and isinstance(module.act_fn, nn.SiLU):
            module.__class__ = _lean(type(module), names)
            count += 1
    return count


def _lean(kind: type[nn.Module], names: tuple[str, str, str]) -> type[nn.Module]:
    """A subclass of the MLP's class with a forward of its own; its name stays, as dispatchers ask for it."""
    gate, up, down = names

    def forward(self: Any, x: Tensor) -> Tensor:
        inner = GatedProduct.apply(getattr(self, gate)(x), getattr(self, up)(x))
        product: Callable[[Tensor], Tensor] = getattr(self, down)
        return product(inner)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
