"""The training loop: XTuner's, which can also divide the loss by the tokens of the whole global batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce, get_world_size
from xtuner.engine.runner import TrainLoop as XTunerLoop

from ..data.tokenise import IGNORE_INDEX
from ..errors import ConfigError
from .schedule import WarmUpCosineLR

LossMean = Literal["micro_batch", "global_batch"]
LOSS_DIVISOR = "loss_divisor"
"""The key under which a batch carries what the sum of its tokens' losses is divided by."""


class TrainLoop(XTunerLoop):
    """XTuner's loop with a choice of what the loss is a mean over.

    With c(t) the cross entropy of a supervised token, G the micro-batches of one optimiser step (all processes,
    all accumulated ones) and n(g) the supervised tokens of micro-batch g, the step follows the gradient of::

        micro_batch    1 / |G|  sum_g  1 / n(g)  sum_{t in g} c(t)       as XTuner, Hugging Face and the paper's runs
        global_batch   1 / sum_g n(g)  sum_g  sum_{t in g} c(t)

    With `micro_batch` a token counts more in a micro-batch that has few, so the same global batch gives another loss
    when it is cut otherwise; with `global_batch` the number of processes and the accumulation do not matter.

    Args:
        loss_mean: `micro_batch` or `global_batch`.
        **options: of `xtuner.engine.runner.TrainLoop`.

    Raises:
        ConfigError: another `loss_mean`.
    """

    dataloader_iterator: Any

    def __init__(self, runner: Any, dataloader: Any, loss_mean: LossMean = "micro_batch", **options: Any) -> None:
        if loss_mean not in ("micro_batch", "global_batch"):
            raise ConfigError(f"train_cfg.loss_mean is {loss_mean!r}: give micro_batch or global_batch")
        super().__init__(runner=runner, dataloader=dataloader, **options)
        self.accumulation = accumulation(runner)
        if loss_mean == "global_batch":
            self.dataloader_iterator = with_divisors(self.dataloader_iterator, self.accumulation, self.max_iters)

    def run(self) -> Any:
        """Train to the end; the schedule learns before what a step is."""
        for scheduler in self.runner.param_schedulers or []:
            if isinstance(scheduler, WarmUpCosineLR):
                scheduler.set_accumulation(self.accumulation)
        return super().run()


def accumulation(runner: Any) -> int:
    """How many micro-batches one process reads for a step; under DeepSpeed its own config says so."""
    found = getattr(getattr(runner, "strategy", None), "config", None) or {}
    return int(found.get("gradient_accumulation_steps") or runner.cfg.optim_wrapper.get("accumulative_counts", 1))


def with_divisors(batches: Iterator[Any], accumulation: int, total: int) -> Iterator[Any]:
    """The batches with the divisor of their losses, read one optimiser step ahead.

    The optimiser averages over the |G| micro-batches of a step, so each is divided by sum_g n(g) / |G|.

    Args:
        batches: of `moslora_xtuner.data.dataset.collate`.
        accumulation: micro-batches of a step on one process.
        total: how many batches there will be; what is left over at the end makes a smaller step.
    """
    read = 0
    while read < total:
        group = [next(batches) for _ in range(min(accumulation, total - read))]
        read += len(group)
        tokens = torch.tensor(sum(supervised_tokens(batch["data"]["labels"]) for batch in group))
        all_reduce(tokens)
        for batch in group:
            batch["data"][LOSS_DIVISOR] = tokens / (len(group) * get_world_size())
            yield batch


def supervised_tokens(labels: torch.Tensor) -> int:
    """The tokens that have a loss: a row's first is never predicted."""
    return int((labels[:, 1:] != IGNORE_INDEX).sum())
