"""The data loader's processes and pinned memory, sized for the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..parallel import cores

MOST_WORKERS = 4
"""Each makes the pixels of 85 to 220 pictures a second (docs/performance.md); a GPU trains on 8 to 16 records."""
CGROUP = Path("/sys/fs/cgroup")


def loader_workers() -> int:
    """How many processes read ahead for each training process.

    With c usable cores and n training processes on this machine (LOCAL_WORLD_SIZE of torchrun, else NPROC_PER_NODE)::

        min(MOST_WORKERS, c // n - 1), at least 1 with a GPU, which works while the worker does, and 0 without one
    """
    import torch

    processes = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("NPROC_PER_NODE") or 1)
    least = 1 if torch.cuda.is_available() else 0
    return max(least, min(MOST_WORKERS, usable_cores() // max(1, processes) - 1))


def pins_memory() -> bool:
    """Whether batches wait in memory that a GPU can copy from by itself: only where there is one."""
    import torch

    return torch.cuda.is_available()


def usable_cores(cgroup: Path = CGROUP) -> int:
    """The cores of this process's affinity, or as many as its container's quota of time is worth; at least 1.

    Source: cpu.max of Linux' cgroup-v2.rst, cpu.cfs_quota_us of sched-bwc.rst (-1 and max are no quota).
    """
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            files = (cgroup / "cpu" / f"cpu.cfs_{part}_us" for part in ("quota", "period"))
            quota, period = (file.read_text().strip() for file in files)
        except OSError:
            return cores()
    if quota in ("max", "-1"):
        return cores()
    return max(1, min(cores(), int(quota) // int(period)))


def without_workers(dataloader: Any) -> Any:
    """A loader's config as torch takes it: one without workers cannot keep them or let them read ahead.

    So `train_dataloader.num_workers=0` is enough to change a recipe that has some.
    """
    if dataloader.get("num_workers"):
        return dataloader
    changed = dataloader.copy()
    for key in ("persistent_workers", "prefetch_factor"):
        changed.pop(key, None)
    return changed


@contextmanager
def no_needless_pause(dataloader: Any) -> Iterator[None]:
    """WORK-AROUND mmengine 0.10.6 (runner/loops.py): it sleeps two seconds between two epochs.

    Against a deadlock of the loader's processes, also where the loader has none. Can go when it waits for those alone.
    """
    from mmengine.runner import loops

    if dataloader.num_workers:
        yield
        return
    stock = loops.time
    loops.time = SimpleNamespace(sleep=lambda _: None)
    try:
        yield
    finally:
        loops.time = stock
