"""A hook that notes when a training has loaded and stepped, and that makes bf16 products bearable on a CPU."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from moslora_xtuner.training.record import Throughput

MARKS = "SIZE_CHECK_MARKS"
BLOCK = 1 << 22
"""Numbers of a weight that are float32 at once: 16 MiB."""


class Clock(Throughput):
    """Takes the place of `Throughput`, and writes wall-clock times and the process's id to the file of a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: dict[str, float] = {"pid": os.getpid()}
        self.products = Float32Products()
        self._mark("imported")

    def before_train(self, runner: Any) -> None:
        """All is loaded."""
        super().before_train(runner)
        self._mark("loaded")
        self.products.__enter__()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """A micro-batch is done; the last one's update too."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        self._mark("stepped")

    def after_train(self, runner: Any) -> None:
        """What follows is the writing of the adapters."""
        self.products.__exit__(None, None, None)

    def _mark(self, name: str) -> None:
        self.marks[name] = time.time()
        Path(os.environ[MARKS]).write_text(json.dumps(self.marks), encoding="utf-8")


class Float32Products(TorchDispatchMode):
    """Products of bf16 numbers computed in float32 and rounded once, as hardware with bf16 does.

    Without AVX-512 torch 2.11 multiplies bf16 matrices in a plain loop, 0.1 GFLOP/s where float32 has 100. The weight
    is made float32 in blocks, so that no copy of it is ever held whole.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        way = _WAYS.get(func) or (_four_bits if str(func) == "bitsandbytes.gemm_4bit.default" else None)
        if way is None or not any(isinstance(a, torch.Tensor) and a.dtype is torch.bfloat16 for a in args):
            return func(*args, **options)
        return way(func, *args, **options)


def _mm(func: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    wide = a.float()
    if b.stride(1) == 1:  # rows lie together
        total = wide.new_zeros(a.shape[0], b.shape[1])
        step = max(1, 4 * BLOCK // b.shape[1])  # fewer: each adds to all of the total
        for start in range(0, b.shape[0], step):
            total.addmm_(wide[:, start : start + step], b[start : start + step].float())
        return total.to(a.dtype)
    out = a.new_empty(a.shape[0], b.shape[1])
    step = max(1, BLOCK // b.shape[0])
    for start in range(0, b.shape[1], step):
        out[:, start : start + step] = wide @ b[:, start : start + step].float()
    return out


def _addmm(func: Any, c: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return (beta * c.float() + alpha * _mm(func, a.float(), b).float()).to(c.dtype)


def _four_bits(func: Any, *args: Any, **kwargs: Any) -> Any:
    """The layer's weight dequantised to bf16, then a product: what bitsandbytes does on a GPU with a training batch."""
    from bitsandbytes.backends.default.ops import _gemm_4bit_default_impl

    with Float32Products():
        return _gemm_4bit_default_impl(*args, **kwargs)


def _whole(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Small operands: all of them float32, the results bf16 again, but for the float32 ones of attention."""
    made = func(*tree_map(_widened, args), **tree_map(_widened, kwargs))
    if isinstance(made, torch.Tensor):
        return made.to(torch.bfloat16)
    return (made[0].to(torch.bfloat16), *made[1:])


def _gradients(func: Any, *args: Any, **kwargs: Any) -> Any:
    made = func(*tree_map(_widened, args), **tree_map(_widened, kwargs))
    return tuple(None if m is None else m.to(torch.bfloat16) for m in made)


def _widened(thing: Any) -> Any:
    return thing.float() if isinstance(thing, torch.Tensor) and thing.dtype is torch.bfloat16 else thing


_aten = torch.ops.aten
_WAYS: dict[Any, Callable[..., Any]] = {
    _aten.mm.default: _mm,
    _aten.addmm.default: _addmm,
    _aten.bmm.default: _whole,
    _aten.convolution.default: _whole,
    _aten._scaled_dot_product_flash_attention_for_cpu.default: _whole,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward.default: _gradients,
}
