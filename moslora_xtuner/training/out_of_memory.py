"""Memory that ran out: known in each form that it comes in, and told with what the step had."""

from __future__ import annotations

import errno
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError
from .endings import LESS, MEMORY

ADVICE = f"{LESS}, or bound a micro-batch's places with train_cfg.max_tokens; `moslora plan` counts what a step needs"


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether an exception says that memory ran out, of a GPU or of the machine."""
    if isinstance(fault, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(fault, OSError):
        return fault.errno == errno.ENOMEM
    return isinstance(fault, RuntimeError) and MEMORY.search(str(fault)) is not None


def told(fault: BaseException, batch: Any, step: int, process: int) -> TrainingError:
    """The same with what the step had: records, places (tokens with the pictures' places, padding included), pictures.

    Args:
        fault: for which `is_out_of_memory` holds.
        batch: of `moslora_xtuner.data.dataset.collate`; with `max_tokens` all micro-batches of a step.
        step: the iteration, counted from 1.
        process: its rank.
    """
    parts = [part["data"] if isinstance(part, dict) and "data" in part else {} for part in _listed(batch)]
    sizes = [data["input_ids"].shape for data in parts if isinstance(data.get("input_ids"), Tensor)]
    had = "a batch of unknown size"
    if sizes:
        records, places = max(sizes, key=lambda size: size[0] * size[1])
        pictures = max(len(data["pixel_values"]) if "pixel_values" in data else 0 for data in parts)
        had = f"{records} records x {places} places = {records * places:,}, {pictures} pictures"
        had = f"the largest of {len(sizes)} micro-batches, {had}" if len(sizes) > 1 else had
    first = str(fault).partition("\n")[0].strip()
    said = f"{type(fault).__name__}{f': {first}' if first else ''}"
    return TrainingError(f"out of memory in iteration {step} on process {process} with {had} ({said}): {ADVICE}")


def _listed(batch: Any) -> list[Any]:
    return batch if isinstance(batch, list) else [batch]
