"""The branch s B(M(A dropout(x))) as one autograd function: it keeps x and one product of width r, nothing else.

Layer by layer autograd would keep the dropped x, its mask and every product; q, k and v, which read the same x, would
keep them three times. Here x is kept as it came, so layers that read the same tensor share it. The mask is the very
one that F.dropout draws: on a GPU it is drawn again in backward from the state that the generator had, on a CPU, where
drawing takes ten times as long as packing, it is kept as bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHED = 2**18
"""Numbers of x that backward takes at a time on a CPU: 1 MiB in float32."""


class Mixing(Enum):
    """How M joins the two products; each computes s B M A x, and differs in what it costs.

    With T tokens, M costs T r^2 operations between the products and r^2 d beside them, once for each micro-batch.
    """

    NONE = "no mixer"
    BETWEEN = "v = M u between the products"
    INTO_A = "A' = M A"
    INTO_B = "B' = B M"
    HALVES = "the butterfly: A' = A1 + A2, B' = B1 + B2, half as wide"


def cheapest(tokens: int, d1: int, d2: int) -> Mixing:
    """The place for a matrix M: on the narrower factor, unless there are fewer tokens than it is wide."""
    if tokens <= min(d1, d2):
        return Mixing.BETWEEN
    return Mixing.INTO_A if d1 < d2 else Mixing.INTO_B


class LowRankBranch(torch.autograd.Function):
    """y = result + s R L dropout(x), with L R the factors after mixing; x: (..., d1), result and y: (..., d2).

    With u = L dropout(x), of width r, and g the gradient of y, the gradients are::

        t = s R^T g           dR = s g u^T        dL = t dropout(x)^T        dx = dropout'(L^T t)

        INTO_A    L = M A, R = B:    dM = dL A^T,   dA = M^T dL
        INTO_B    L = A, R = B M:    dM = B^T dR,   dB = dR M^T
        BETWEEN   v = M u for u in dR,  dM = t u^T,  M^T t for t in dL and dx
        HALVES    L = A1 + A2, R = B1 + B2:  dA = (dL, dL), dB = (dR, dR)

    (arXiv 2406.11909, section 3, in PEFT's orientation.) Products are in A's dtype, or in autocast's.
    """

    @staticmethod
    def forward(
        ctx: Any, result: Tensor, x: Tensor, a: Tensor, m: Tensor | None, b: Tensor,
        scaling: float, dropout: float, mixing: Mixing, in_place: bool,
    ) -> Tensor:  # fmt: skip
        """Add the branch to `result`, into its own memory if it is `in_place`.

        Args:
            result: what the frozen layer gave.
            a, m, b: A (r, d1), M (r, r) or None, B (d2, r).
            scaling: s.
            dropout: the probability of a zero; 0 draws nothing.
        """
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else a.dtype
        dtype = a.dtype if a.dtype == torch.float64 else dtype  # autocast leaves float64 alone
        again: Tensor | None = None
        with torch.autocast(kind, enabled=False):
            left, right = mixed_factors(mixing, a, m, b, dtype)
            read = x.to(dtype)
            if dropout:
                read, again = dropped(read, dropout)
            u = F.linear(read, left).flatten(0, -2)
            del read
            v = u @ m.to(dtype).T if mixing is Mixing.BETWEEN and m is not None else u
            flat = result.reshape(-1, result.shape[-1])
            if result.dtype != dtype:
                made = (flat + scaling * (v @ right.T)).to(result.dtype).view(result.shape)
            elif in_place:
                flat.addmm_(v, right.T, alpha=scaling)
                ctx.mark_dirty(result)
                made = result
            else:
                made = torch.addmm(flat, v, right.T, alpha=scaling).view(result.shape)
        ctx.save_for_backward(x, u, a, m, b, again)
        ctx.scaling, ctx.dropout, ctx.mixing, ctx.dtype = scaling, dropout, mixing, dtype
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of result, x, A, M and B; those of the constants are None."""
        x, u, a, m, b, again = ctx.saved_tensors
        mixing, dtype = ctx.mixing, ctx.dtype
        for_result, for_x, for_a, for_m, for_b = ctx.needs_input_grad[:5]
        made: dict[str, Tensor] = {}
        with torch.autocast(x.device.type, enabled=False):
            left, right = mixed_factors(mixing, a, m, b, dtype)
            g = grad.reshape(-1, grad.shape[-1]).to(dtype)
            t = (g @ right).mul_(ctx.scaling)
            between = m.to(dtype) if mixing is Mixing.BETWEEN else None
            if for_b or (for_m and mixing is Mixing.INTO_B):
                v = u if between is None else u @ between.T
                d_right = (g.T @ v).mul_(ctx.scaling)
                made |= _of_right(mixing, d_right, m, b, for_m, for_b)
            if between is not None:
                if for_m:
                    made["m"] = t.T @ u
                t = t @ between
            for_left = for_a or (for_m and mixing is Mixing.INTO_A)
            if for_left or for_x:
                d_left, d_x = behind_dropout(x.to(dtype), t, left, ctx.dropout, again)
                made |= _of_left(mixing, d_left, a, m, for_m, for_a)
                if for_x:
                    made["x"] = d_x.to(x.dtype)
        for name, factor in (("a", a), ("m", m), ("b", b)):
            if name in made:
                made[name] = made[name].to(factor.dtype)
        gradients = (made.get(name) for name in ("x", "a", "m", "b"))
        return (grad if for_result else None, *gradients, None, None, None, None)


def mixed_factors(mixing: Mixing, a: Tensor, m: Tensor | None, b: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """L and R, which x and then L x go through."""
    if mixing is Mixing.HALVES:
        # Added before they are rounded to autocast's dtype.
        (a1, a2), (b1, b2) = a.chunk(2), b.chunk(2, dim=1)
        return (a1 + a2).to(dtype), (b1 + b2).to(dtype)
    if m is not None and mixing is not Mixing.BETWEEN:
        exact = torch.promote_types(a.dtype, m.dtype)
        if mixing is Mixing.INTO_A:
            return (m.to(exact) @ a.to(exact)).to(dtype), b.to(dtype)
        return a.to(dtype), (b.to(exact) @ m.to(exact)).to(dtype)
    return a.to(dtype), b.to(dtype)


def _of_right(
    mixing: Mixing, d_right: Tensor, m: Tensor | None, b: Tensor, for_m: bool, for_b: bool
) -> dict[str, Tensor]:
    """What dR says of B and M."""
    made = {}
    if mixing is Mixing.INTO_B and m is not None:
        if for_m:
            made["m"] = b.to(d_right.dtype).T @ d_right
        if for_b:
            made["b"] = d_right @ m.to(d_right.dtype).T
    elif for_b:
        made["b"] = d_right.repeat(1, 2) if mixing is Mixing.HALVES else d_right
    return made


def _of_left(
    mixing: Mixing, d_left: Tensor, a: Tensor, m: Tensor | None, for_m: bool, for_a: bool
) -> dict[str, Tensor]:
    """What dL says of A and M."""
    made = {}
    if mixing is Mixing.INTO_A and m is not None:
        if for_m:
            made["m"] = d_left @ a.to(d_left.dtype).T
        if for_a:
            made["a"] = m.to(d_left.dtype).T @ d_left
    elif for_a:
        made["a"] = d_left.repeat(2, 1) if mixing is Mixing.HALVES else d_left
    return made


def dropped(x: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    """What F.dropout makes of x, number for number from the same draws, and what gives its mask again."""
    if x.device.type == "cuda":
        state = _generator(x.device).get_state()
        return torch.native_dropout(x, dropout, True)[0], state
    noise = torch.empty_like(x).bernoulli_(1 - dropout)
    bits = torch.from_numpy(np.packbits((noise != 0).numpy()))
    return noise.div_(1 - dropout).mul_(x), bits


def behind_dropout(x: Tensor, t: Tensor, left: Tensor, dropout: float, again: Tensor | None) -> tuple[Tensor, Tensor]:
    """dL = t dropout(x)^T, (r, d1), and dx = dropout'(L^T t), (..., d1), for t: (T, r).

    Args:
        again: what `dropped` gave; None without dropout.
    """
    if again is None:
        return t.T @ x.flatten(0, -2), (t @ left).view(x.shape)
    if x.device.type == "cuda":
        with _drawing_again(x.device, again):
            # In x's own shape: what is drawn depends on how the kernel divides it.
            read, mask = torch.native_dropout(x, dropout, True)
        d_left = t.T @ read.flatten(0, -2)
        d_x = (t @ left).view(x.shape)
        return d_left, torch.ops.aten.native_dropout_backward(d_x, mask, 1 / (1 - dropout))
    keep = torch.from_numpy(np.unpackbits(again.numpy(), count=x.numel()))
    d_left, d_x = torch.zeros_like(left), x.new_empty(x.shape)  # laid out row by row, unlike x perhaps
    t = t / (1 - dropout)
    few = max(1, CACHED // x.shape[-1])
    rows = (part.flatten(0, -2).split(few) for part in (x, keep.view(x.shape), d_x))
    # Some rows at a time: they stay in the cache, and no other copy of x is made.
    for read, kept, made, part in zip(*rows, t.split(few), strict=True):
        mask = kept.to(x.dtype)  # multiplying by integers is seven times slower
        d_left.addmm_(part.T, read * mask)
        torch.mul(part @ left, mask, out=made)
    return d_left, d_x


def _generator(device: torch.device) -> torch.Generator:
    """The generator from which dropout draws on this GPU."""
    return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]


@contextmanager
def _drawing_again(device: torch.device, state: Tensor) -> Iterator[None]:
    """The generator as it was in `state`; afterwards as it is now."""
    source = _generator(device)
    now = source.get_state()
    source.set_state(state)
    try:
        yield
    finally:
        source.set_state(now)
