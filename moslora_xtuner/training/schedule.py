"""The learning rate over a run."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from ..errors import ConfigError

LEAST_WARMUP = 2


class WarmUpCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Linear warm-up, then a cosine to zero, counted in steps of the optimiser.

    With T steps in all and w = max(2, round(warmup_ratio T)) of warm-up, step t = 0, 1, ... has the rate::

        lr (t + 1) / w                                   t < w
        lr (1 + cos(pi (t - w) / (T - w))) / 2           t >= w

    WORK-AROUND mmengine 0.10.6: its LinearLR refuses the zero warm-up steps that a short run has, and with one
    step silently leaves the rate at the start factor. Can go when it takes both.

    mmengine counts micro-batches. `set_accumulation` says how many of them make a step; the training loop
    (`loop.TrainLoop`) calls it, so that the same global batches get the same rates however they are cut.

    Args:
        optimizer: set by mmengine.
        warmup_ratio: the share of all steps, at least 0 and below 1.
        end: micro-batches of the run; mmengine sets it when the config leaves it out.

    Raises:
        ConfigError: `warmup_ratio` is out of range.
    """

    def __init__(self, optimizer: Any, *, warmup_ratio: float, end: int, **options: Any) -> None:
        if not 0 <= warmup_ratio < 1:
            raise ConfigError(f"warmup_ratio is {warmup_ratio}: give a share of all steps, at least 0 and below 1")
        self.warmup_ratio = warmup_ratio
        self._count(1, end)
        super().__init__(optimizer, end=end, **options)

    def set_accumulation(self, micro_batches: int) -> None:
        """Count that many micro-batches as one step, from the start of the run on."""
        self._count(micro_batches, self.end)
        for group, rate in zip(self.optimizer.param_groups, self._get_value(), strict=True):
            group[self.param_name] = rate
        self._last_value = [group[self.param_name] for group in self.optimizer.param_groups]

    def _count(self, accumulation: int, micro_batches: int) -> None:
        self.accumulation = accumulation
        self.steps = math.ceil(micro_batches / accumulation)
        self.warmup = warmup_steps(self.warmup_ratio, self.steps)

    def _get_value(self) -> list[float]:
        return [base * self.share(self.last_step // self.accumulation) for base in self.base_values]

    def share(self, step: int) -> float:
        """The share of the peak rate at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))


def warmup_steps(ratio: float, steps: int) -> int:
    """How many of a run's steps warm up."""
    return max(LEAST_WARMUP, round(ratio * steps))
