"""Part 6: what this device can do at most: a matrix product in bf16 and a copy.

python scripts/gpu/ceiling.py OUT.json [--cpu]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu.part import run_part


def seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """The median of some runs."""
    taken = []
    for repeat in range(repeats + 3):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if repeat >= 3:
            taken.append(time.perf_counter() - began)
    return median(taken)


def measure(found: dict[str, Any], small: bool) -> bool:
    """Products of the shapes of a training step at 6,656 tokens, one large one, and a copy; on random data."""
    device = torch.device("cpu" if small else "cuda")
    sizes = [(128, 128, 128)] if small else [(8192, 8192, 8192), (6656, 4096, 14336), (6656, 4096, 4096)]
    rows: list[dict[str, Any]] = []
    found["rows"] = rows
    for m, k, n in sizes:
        a = torch.randn(m, k, device=device, dtype=torch.bfloat16)
        b = torch.randn(n, k, device=device, dtype=torch.bfloat16).T
        taken = seconds(lambda a=a, b=b: a @ b, device, 10)  # type: ignore[misc]
        rows.append({"what": "bf16 product", "size": [m, k, n], "seconds": taken, "tflops": 2e-12 * m * k * n / taken})
    source = torch.randn(2**16 if small else 2**30, device=device)
    target = torch.empty_like(source)
    taken = seconds(lambda: target.copy_(source), device, 10)
    moved = 2 * source.numel() * source.element_size()
    rows.append({"what": "copy", "bytes": moved, "seconds": taken, "terabytes_a_second": moved / taken / 1e12})
    for row in rows:
        print({key: value for key, value in row.items() if key != "seconds"}, flush=True)
    return True


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    run_part("ceiling", args.out, lambda found: measure(found, args.cpu))


if __name__ == "__main__":
    main()
