"""What a checkpoint holds of a validation, for a run whose iterations are others."""

from __future__ import annotations

import json
import math
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...atomic import atomic_json
from .best import FACTS, IN_CHECKPOINT
from .losses import STATE


def move_state(state: Path, made: Path, factor: Fraction) -> None:
    """Copy it from a checkpoint's state to another one, each step `factor` times as many iterations.

    Raises OSError or ValueError where a file of it cannot be read or written.
    """
    if (state / STATE).is_file():
        content: Any = json.loads((state / STATE).read_text(encoding="utf-8"))
        content["losses"] = [[times(step, factor), loss] for step, loss in content["losses"]]
        atomic_json(made / STATE, content)
    if (state / IN_CHECKPOINT).is_dir():
        shutil.copytree(state / IN_CHECKPOINT, made / IN_CHECKPOINT)
        facts: Any = json.loads((made / IN_CHECKPOINT / FACTS).read_text(encoding="utf-8"))
        facts["step"] = times(facts["step"], factor)
        atomic_json(made / IN_CHECKPOINT / FACTS, facts)


def times(iterations: int, factor: Fraction) -> int:
    """So many steps in the other run's iterations; what is left over at a run's end is a step of its own."""
    return math.ceil(iterations * factor)
