"""Where a step's time goes on a GPU: its kernels by their time, from torch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

MOST = 30


def kernels(step: Callable[[], Any]) -> dict[str, Any]:
    """Milliseconds of all kernels of one step, and of the MOST longest by name, with how often each ran."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    rows = [
        {"name": event.key[:120], "calls": event.count, "ms": event.self_device_time_total / 1e3}
        for event in profile.key_averages()
        if event.self_device_time_total > 0
    ]
    rows.sort(key=lambda row: -row["ms"])
    return {"all_ms": sum(row["ms"] for row in rows), "longest": rows[:MOST]}
