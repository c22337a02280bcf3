"""The random states of one process, so that a resumed run draws what an undisturbed one would."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch


def states() -> dict[str, Any]:
    """Of Python, NumPy and torch on the CPU and on this process's GPU, as tensors and numbers alone."""
    version, inner, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    found: dict[str, Any] = {
        "python": [version, list(inner), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def write(file: Path) -> None:
    """Write the states of this process."""
    torch.save(states(), file)


def restore(file: Path) -> None:
    """Go on with the states of a file."""
    set_states(torch.load(file, weights_only=True))


def set_states(found: Mapping[str, Any]) -> None:
    """Go on with what `states` gave."""
    version, inner, gauss = found["python"]
    random.setstate((version, tuple(inner), gauss))
    kind, keys, position, has_gauss, cached = found["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(found["torch"])
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])


def from_own_generator(dataloader: Any) -> None:
    """Let a data loader draw its workers' seeds from a generator of its own.

    Else each new epoch, and each resume, would take a number out of the training's, and dropout would differ.
    """
    dataloader.generator = torch.Generator()
    dataloader.generator.manual_seed(0)
