"""What a measurement was made on: card, driver, versions, date."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

PACKAGES = (
    "torch", "triton", "transformers", "peft", "xtuner", "mmengine", "deepspeed", "bitsandbytes", "liger-kernel",
    "ms-vlmeval", "numpy", "moslora-xtuner",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Facts of this machine; `card` is None without a GPU."""
    gpu = torch.cuda.is_available()
    facts: dict[str, Any] = {
        "date": date.today().isoformat(),
        "card": torch.cuda.get_device_name() if gpu else None,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }
    if gpu:
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "card_memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }
    return facts


def described(facts: dict[str, Any]) -> str:
    """One line."""
    card = f"{facts['card']}, {facts['card_memory_gib']} GiB, driver {facts['driver']}" if facts["card"] else "no GPU"
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return f"{facts['date']}, {card}, {facts['cores']} cores, Python {facts['python']}; {versions}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None
