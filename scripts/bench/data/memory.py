"""Time and memory of a command and of everything that it starts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MARK = "measured: "
"""What a measured process prints before the JSON of what it measured itself."""


@dataclass(frozen=True)
class Run:
    """What a command came to.

    Attributes:
        said: what the command measured itself.
        peak_gb: the largest sum of its processes' proportional set sizes (1e9 bytes): what several share counts once.
        seconds: from its start to its end.
    """

    said: dict[str, Any]
    peak_gb: float
    seconds: float


def measured(role: str, *arguments: str, environment: dict[str, str] | None = None) -> Run:
    """Run one of the roles in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    script = Path(__file__).with_name("roles.py")
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, str(script), role, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, _proportional(process.pid))
            time.sleep(0.2)
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    if process.returncode:
        raise SystemExit(f"error: {role} {' '.join(arguments)} ended with status {process.returncode}")
    said = next(json.loads(line[len(MARK) :]) for line in lines if line.startswith(MARK))
    return Run(said, peak / 1e9, time.monotonic() - began)


def _proportional(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    for member in family:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:
            continue  # it has just ended
    return total
