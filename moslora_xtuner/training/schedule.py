"""The learning rate over a run."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from ..errors import ConfigError

LEAST_WARMUP = 2


class _WarmUp(LRSchedulerMixin, _ParamScheduler):
    """Linear warm-up, (t + 1) / w of the peak in step t, then what `falling` says, in steps of the optimiser.

    mmengine counts micro-batches. `set_accumulation` says how many of them make a step; the training loop
    (`loop.TrainLoop`) calls it, so that the same global batches get the same rates however they are cut.

    WORK-AROUND mmengine 0.10.6: its LinearLR refuses the zero warm-up steps that a short run has, and with one
    step silently leaves the rate at the start factor. Can go when it takes both.

    Args:
        optimizer: set by mmengine.
        end: micro-batches of the run; mmengine sets it when the config leaves it out.
    """

    def __init__(self, optimizer: Any, *, end: int, **options: Any) -> None:
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
        self.warmup = self.warmup_of(self.steps)

    def _get_value(self) -> list[float]:
        return [base * self.share(self.last_step // self.accumulation) for base in self.base_values]

    def warmup_of(self, steps: int) -> int:
        """How many of a run's steps warm up."""
        raise NotImplementedError

    def falling(self, done: float) -> float:
        """The share of the peak rate when that share of the steps behind the warm-up is done."""
        raise NotImplementedError

    def share(self, step: int) -> float:
        """The share of the peak rate at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.falling((step - self.warmup) / max(1, self.steps - self.warmup))


class WarmUpCosineLR(_WarmUp):
    """Linear warm-up, then a cosine to zero, counted in steps of the optimiser.

    With T steps in all and w = max(2, round(warmup_ratio T)) of warm-up, step t = 0, 1, ... has the rate::

        lr (t + 1) / w                                   t < w
        lr (1 + cos(pi (t - w) / (T - w))) / 2           t >= w

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
        super().__init__(optimizer, end=end, **options)

    def warmup_of(self, steps: int) -> int:
        """The share `warmup_ratio` of them, two at least."""
        return warmup_steps(self.warmup_ratio, steps)

    def falling(self, done: float) -> float:
        """The half of a cosine."""
        return 0.5 * (1 + math.cos(math.pi * done))


class WarmUpLinearLR(_WarmUp):
    """Linear warm-up of a fixed number of steps, then a line to zero, as Hugging Face's `linear` schedule.

    With T steps in all and w = warmup_steps, step t = 0, 1, ... has the rate::

        lr (t + 1) / w                                   t < w
        lr (T - t) / (T - w)                             t >= w

    Hugging Face's starts one step earlier, at a rate of 0, with which nothing is learnt.

    Args:
        optimizer: set by mmengine.
        warmup_steps: from 1 on; a run of fewer steps ends in its warm-up.
        end: micro-batches of the run; mmengine sets it when the config leaves it out.

    Raises:
        ConfigError: `warmup_steps` is no whole number from 1 on.
    """

    def __init__(self, optimizer: Any, *, warmup_steps: int, end: int, **options: Any) -> None:
        if not isinstance(warmup_steps, int) or warmup_steps < 1:
            raise ConfigError(f"warmup_steps is {warmup_steps!r}: give a whole number from 1 on")
        self.warmup_steps = warmup_steps
        super().__init__(optimizer, end=end, **options)

    def warmup_of(self, steps: int) -> int:
        """As said."""
        return self.warmup_steps

    def falling(self, done: float) -> float:
        """The rest of the line."""
        return 1 - done


WarmUp = WarmUpCosineLR | WarmUpLinearLR


def warmup_steps(ratio: float, steps: int) -> int:
    """How many of a run's steps warm up."""
    return max(LEAST_WARMUP, round(ratio * steps))
