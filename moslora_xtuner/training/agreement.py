"""What one process of a training finds, all know."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce


def on_any_process(found: bool) -> bool:
    """Whether it is so on any of them; all call this together."""
    told = torch.tensor(float(found))
    all_reduce(told, "max")  # mmengine's brings it to the backend's device, and does nothing in a process alone
    return bool(told)
