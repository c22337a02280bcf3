"""What `--deepspeed zero2` and `zero3` mean: a file for GPUs, and one for gloo."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

NAMES = ("zero2", "zero3")


def deepspeed_file(name: str, gpu: bool) -> Path:
    """The file that `--deepspeed NAME` means.

    ZeRO on gloo wants `overlap_comm` off and no half precision (with overlap the loss stays flat, silently).
    """
    if name not in NAMES:
        return Path(name)
    return Path(str(files("moslora_xtuner.configs"))) / "deepspeed" / f"{name}{'' if gpu else '_cpu'}.json"
