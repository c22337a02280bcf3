"""The validation losses of a run so far, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import TrainingError

STATE = "validation.json"
"""In a checkpoint's `iter_N.state`."""


@dataclass(frozen=True)
class Loss:
    """One validation.

    Attributes:
        step: iterations of the loop that were done.
        loss: None where it was no finite number.
    """

    step: int
    loss: float | None

    @classmethod
    def of(cls, step: int, loss: float) -> Loss:
        """From what was computed."""
        return cls(step, loss if math.isfinite(loss) else None)


def best(losses: Sequence[Loss]) -> Loss | None:
    """The lowest, the earlier of two that are alike; what is no number never is. None without one."""
    finite = [loss for loss in losses if loss.loss is not None]
    return min(finite, key=lambda found: (found.loss, found.step), default=None)


def as_json(losses: Sequence[Loss]) -> list[list[Any]]:
    """Step and loss of each."""
    return [[found.step, found.loss] for found in losses]


def from_json(content: Any, where: object) -> list[Loss]:
    """From a file's content. Raises TrainingError, naming the file."""
    try:
        return [Loss(int(step), None if loss is None else float(loss)) for step, loss in content]
    except (TypeError, ValueError) as fault:
        raise TrainingError(f"{where} does not hold validation losses ({fault}): begin anew") from fault
