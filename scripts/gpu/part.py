"""How a part of the check writes what it found: one JSON, also when it fails half-way."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .machine import machine


def run_part(name: str, out: Path, measure: Callable[[dict[str, Any]], bool]) -> None:
    """Run `measure`, which fills the dict that it gets and says whether all is well; write `out`; exit 1 if not."""
    found: dict[str, Any] = {}
    began = time.perf_counter()
    fault = None
    try:
        ok = measure(found)
    except BaseException as error:
        traceback.print_exc()
        ok, fault = False, f"{type(error).__name__}: {error}"
    content = {
        "part": name,
        "ok": ok,
        "fault": fault,
        "seconds": round(time.perf_counter() - began, 1),
        "machine": machine(),
        **found,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=2) + "\n")
    print(f"{name}: {'well' if ok else 'NOT well'}, {content['seconds']} s{f' ({fault})' if fault else ''}", flush=True)
    sys.exit(not ok)
