"""A hook for mmengine that measures what tensors hold at most, on any device, while `xtuner train` runs.

Used by tests/training/test_memory.py, in the training's own process: `custom_hooks` names it.
"""

from __future__ import annotations

import gc
import json
import os
import weakref
from typing import Any

import torch
from mmengine.hooks import Hook
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


class PeakMemory(Hook):
    """Writes the peak of the second step on to the file that PEAK_MEMORY names."""

    priority = "VERY_LOW"

    def after_train_iter(self, runner: Any, batch_idx: int, *_: Any, **__: Any) -> None:
        """Start after a step, when the optimiser has its state; stop three steps later."""
        if batch_idx == 1:
            gc.collect()
            self.mode = LiveTensors()
            self.start = self.mode.now
            self.mode.__enter__()
        elif batch_idx == 4:
            self.mode.__exit__(None, None, None)
            with open(os.environ["PEAK_MEMORY"], "w", encoding="utf-8") as file:
                json.dump({"peak": self.mode.peak, "between_steps": self.start}, file)
