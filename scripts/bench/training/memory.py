"""What tensors hold at most while a piece of code runs, and what autograd keeps of them, on any device."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of every storage that an operation returns, until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.now = 0
        self.peak = 0
        for thing in gc.get_objects():
            if isinstance(thing, torch.Tensor):
                self.count(thing)

    def count(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.live or not size:
            return
        self.live[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.freed, key)

    def freed(self, key: int) -> None:
        """A storage has gone."""
        self.now -= self.live.pop(key, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.count(leaf)
        return result


class Peak:
    """Bytes at the start and at the most."""

    start = 0
    most = 0

    @property
    def above(self) -> int:
        """What came on top of the start."""
        return self.most - self.start


@contextmanager
def peak_of(device: torch.device) -> Iterator[Peak]:
    """Measure a block: the allocator's own count on a GPU, all tensors' storages elsewhere."""
    found = Peak()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        found.start = torch.cuda.memory_allocated()
        yield found
        torch.cuda.synchronize()
        found.most = torch.cuda.max_memory_allocated()
        return
    with LiveTensors() as mode:
        found.start = mode.now
        mode.peak = mode.now
        yield found
        found.most = mode.peak


@contextmanager
def saved_bytes() -> Iterator[dict[int, int]]:
    """Bytes that autograd keeps, by storage, so that a tensor kept twice counts once; weights do not count."""
    kept: list[torch.Tensor] = []  # alive until the end, so that no storage's address is used twice
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(base, nn.Parameter):
            kept.append(tensor.detach())
            storage = tensor.untyped_storage()
            sizes[storage._cdata] = storage.nbytes()
        return tensor.detach()  # itself, it would hold the graph that holds it

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes
