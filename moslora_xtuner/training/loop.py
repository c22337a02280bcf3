"""The training loop: XTuner's, with a loss over the global batch's tokens and a resume that reads nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce, get_world_size
from xtuner.engine.runner import TrainLoop as XTunerLoop

from ..data.tokenise import IGNORE_INDEX
from ..errors import ConfigError
from .resume import batches_from, can_skip
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

    A resumed run goes on with the batch it would have had, without reading those before it when the sampler can
    `skip`, as `moslora_xtuner.data.sampler.LengthGroupedSampler` can; another is read up to there, as mmengine does.

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
        self.loss_mean = loss_mean
        self.dataloader_iterator = self._for_loss(self.dataloader_iterator)

    def run(self) -> Any:
        """Train to the end; the schedule learns before what a step is."""
        for scheduler in self.runner.param_schedulers or []:
            if isinstance(scheduler, WarmUpCosineLR):
                scheduler.set_accumulation(self.accumulation)
        self._skip_what_is_done()
        return super().run()

    def _for_loss(self, batches: Iterator[Any], done: int = 0) -> Iterator[Any]:
        if self.loss_mean == "micro_batch":
            return batches
        return with_divisors(batches, self.accumulation, self.max_iters, done)

    def _skip_what_is_done(self) -> None:
        """Let mmengine's loop, which asks for all batches before `iter` again, get nothing for them."""
        done = self._iter
        if self.loss_mean == "global_batch":
            done -= done % self.accumulation  # a step begun before the checkpoint is read whole: its tokens count
        if done and can_skip(self.dataloader):
            self.dataloader_iterator = None  # ends its workers before others begin
            remaining = self._for_loss(batches_from(self.dataloader, done), done)
            self.dataloader_iterator = chain(repeat(None, done), remaining)


def accumulation(runner: Any) -> int:
    """How many micro-batches one process reads for a step; under DeepSpeed its own config says so."""
    found = getattr(getattr(runner, "strategy", None), "config", None) or {}
    return int(found.get("gradient_accumulation_steps") or runner.cfg.optim_wrapper.get("accumulative_counts", 1))


def with_divisors(batches: Iterator[Any], accumulation: int, total: int, done: int = 0) -> Iterator[Any]:
    """The batches with the divisor of their losses, read one optimiser step ahead.

    The optimiser averages over the |G| micro-batches of a step, so each is divided by sum_g n(g) / |G|.

    Args:
        batches: of `moslora_xtuner.data.dataset.collate`.
        accumulation: micro-batches of a step on one process.
        total: how many batches there will be; what is left over at the end makes a smaller step.
        done: how many of them came before, in whole steps.
    """
    read = done
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
