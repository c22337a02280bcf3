"""A resumed run begins at its place in the data without reading what came before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Private, and the very class whose epochs the batches after the first one must follow.
from mmengine.runner.loops import _InfiniteDataloaderIterator

from ..data.token_budget import TokenBudget


def can_skip(dataloader: Any) -> bool:
    """Whether the data loader's sampler can begin in the middle, and a batch is so many of its rows or a budget's."""
    if isinstance(dataloader.batch_sampler, TokenBudget):
        return True
    return hasattr(dataloader.sampler, "skip") and dataloader.batch_size is not None


def batches_from(dataloader: Any, done: int) -> Iterator[Any]:
    """The batches that mmengine's loop would read after the first `done`, epoch after epoch.

    Nothing happens before the first is asked for: mmengine's `DistSamplerSeedHook` sets the sampler's epoch to 0 when
    training begins, and a data loader without workers asks its sampler only at its first batch.

    Args:
        dataloader: one that `can_skip`.
        done: batches of this process, counted over all epochs; with a `TokenBudget` steps of the optimiser.

    Source: `mmengine.runner.loops._InfiniteDataloaderIterator` and `IterBasedTrainLoop.run` of mmengine 0.10.6.
    """
    budget = dataloader.batch_sampler
    if isinstance(budget, TokenBudget):
        epoch, steps = divmod(done, budget.steps)
        budget.sampler.set_epoch(epoch)
        budget.skip(steps)
    else:
        epoch, batches = divmod(done, len(dataloader))
        dataloader.sampler.set_epoch(epoch)
        dataloader.sampler.skip(batches * dataloader.batch_size)
    iterator = _InfiniteDataloaderIterator(dataloader)
    iterator._epoch = epoch
    yield from iterator
