"""The learning rate over a run."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from ..errors import ConfigError

LEAST_WARMUP = 2


class WarmUpCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Linear warm-up, then a cosine to zero, counted in steps.

    With T steps in all and w = max(2, round(warmup_ratio T)) of warm-up, step t = 0, 1, ... has the rate::

        lr (t + 1) / w                                   t < w
        lr (1 + cos(pi (t - w) / (T - w))) / 2           t >= w

    WORK-AROUND mmengine 0.10.6: its LinearLR refuses the zero warm-up steps that a short run has, and with one
    step silently leaves the rate at the start factor. Can go when it takes both.

    Args:
        optimizer: set by mmengine.
        warmup_ratio: the share of all steps, at least 0 and below 1.
        end: T; mmengine sets it to the run's steps when the config leaves it out.

    Raises:
        ConfigError: `warmup_ratio` is out of range.
    """

    def __init__(self, optimizer: Any, *, warmup_ratio: float, end: int, **options: Any) -> None:
        if not 0 <= warmup_ratio < 1:
            raise ConfigError(f"warmup_ratio is {warmup_ratio}: give a share of all steps, at least 0 and below 1")
        self.warmup = max(LEAST_WARMUP, round(warmup_ratio * end))
        super().__init__(optimizer, end=end, **options)

    def _get_value(self) -> list[float]:
        return [base * self.share(self.last_step) for base in self.base_values]

    def share(self, step: int) -> float:
        """The share of the peak rate at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.end - self.warmup)))
