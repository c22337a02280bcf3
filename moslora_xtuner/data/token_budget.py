"""Micro-batches of as many records as fit into a number of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from ..errors import ConfigError
from .sampler import LengthGroupedSampler, Rows, parts_of


class TokenBudget(Sampler[list[int]]):
    """Cuts each global batch of the sampler into micro-batches of at most `max_tokens` places, padding included.

    A step of the optimiser keeps its records: the same B = total_batch_size consecutive rows of the sampler's order as
    without a budget, whatever the number of processes. Only the cut is another, so with a loss that is a mean over the
    global batch the gradient is the same. With l_1 >= ... >= l_B the places of these rows (text tokens, and
    `image_tokens` for each picture's mark) and W processes, a step has K W micro-batches, runs of consecutive rows::

        cost(g) = |g| max_{i in g} l_i  <=  max_tokens
        K       = the least number of micro-batches a process with which that is possible
        order   : by cost, the costliest first; process r has the r-th of every W
        cut     : the one of at most K W parts with the smallest max_g cost(g); while it has fewer, the part is halved
                  that leaves the least sum of what the rounds of W cost, each as much as its costliest

    So every process has K micro-batches in a step, those that run at the same time cost alike, and K changes from step
    to step. A fixed K with steps of about K W max_tokens tokens (as --max-tokens of fairseq) would need nothing of the
    optimiser, but a step's records, their number and the number of steps would follow the budget and the number of
    GPUs. `moslora_xtuner.training.micro_batches` lets mmengine and DeepSpeed accumulate over a changing number.

    Args:
        sampler: gives the order; its `per_device_batch_size` is a process's share of a step.
        batch_size: rows of a micro-batch without a budget: mmengine gives it, and asks for it to tell DeepSpeed, which
            counts samples with it. Nothing follows from it.
        max_tokens: places of a micro-batch, rows x longest row.
        image_tokens: places of a picture.

    Raises:
        ConfigError: another sampler, one that does not round up, or a row longer than `max_tokens`; the message
            names the row.

    Source: the cut of a sorted sequence by its largest part, by bisection; fairseq's batch_by_size for the cost.
    """

    def __init__(self, sampler: Any, batch_size: int | None = None, *, max_tokens: int, image_tokens: int) -> None:
        if not isinstance(sampler, LengthGroupedSampler) or sampler.total_size % sampler.total_batch_size:
            raise ConfigError(
                "max_tokens needs moslora_xtuner.data.sampler.LengthGroupedSampler with round_up as "
                f"train_dataloader.sampler, not {type(sampler).__name__}"
            )
        self.sampler, self.batch_size, self.max_tokens, self.skipped = sampler, batch_size, max_tokens, 0
        self.places = places(sampler, image_tokens)
        longest = int(np.argmax(self.places))
        if self.places[longest] > max_tokens:
            raise ConfigError(
                f"record {longest} has {self.places[longest]:,} tokens with its pictures' places, max_tokens is "
                f"{max_tokens:,}: raise train_cfg.max_tokens, or prepare the store with a smaller --max-length"
            )
        self.steps = sampler.total_size // sampler.total_batch_size
        """Optimiser steps of an epoch, the same in each."""
        self._counted = (-1, 0)

    def __iter__(self) -> Iterator[list[int]]:
        """This process's micro-batches of the epoch, once without those of the steps that `skip` named."""
        skipped, self.skipped = self.skipped, 0
        mine, processes = self.sampler.rank, self.sampler.world_size
        for parts in self._steps(self.sampler.epoch, skipped):
            for part in parts[mine::processes]:
                yield [int(row) for row in part]

    def __len__(self) -> int:
        """The micro-batches of this process in the epoch."""
        epoch = self.sampler.epoch
        if self._counted[0] != epoch:
            self._counted = (epoch, sum(self.counts(epoch)))
        return self._counted[1]

    def counts(self, epoch: int, first: int = 0) -> Iterator[int]:
        """How many micro-batches each step of an epoch has on one process, from step `first` on."""
        for parts in self._steps(epoch, first):
            yield len(parts) // self.sampler.world_size

    def skip(self, steps: int) -> None:
        """Let the next epoch that is read start so many steps later, and only that one.

        Raises:
            ValueError: fewer than none, or more than an epoch has.
        """
        if not 0 <= steps <= self.steps:
            raise ValueError(f"cannot skip {steps} of {self.steps} steps")
        self.skipped = steps

    def _steps(self, epoch: int, first: int) -> Iterator[list[Rows]]:
        return steps_of(self.sampler, self.places, self.max_tokens, self.sampler.world_size, epoch, first)


def steps_of(
    sampler: LengthGroupedSampler, places: Rows, max_tokens: int, processes: int, epoch: int = 0, first: int = 0
) -> Iterator[list[Rows]]:
    """The micro-batches of each step of an epoch on so many processes, from step `first` on."""
    for rows in sampler.order(epoch).reshape(-1, sampler.total_batch_size)[first:]:
        yield [rows[part] for part in pack(places[rows], max_tokens, processes)]


def places(sampler: LengthGroupedSampler, image_tokens: int) -> Rows:
    """How many places of the language model each row takes.

    A dataset without `image_counts` has one picture in each row of positive length, as XTuner's have.
    """
    counts = [getattr(part, "image_counts", None) for part in parts_of(sampler.dataset)]
    if any(count is None for count in counts):
        pictures = (sampler.lengths > 0).astype(np.int64)
    else:
        pictures = np.concatenate([np.asarray(count, np.int64) for count in counts])
    return np.abs(sampler.lengths) + pictures * (image_tokens - 1)


def pack(lengths: Rows, max_tokens: int, processes: int) -> list[Rows]:
    """Cut one step's rows as the class says; the r-th, (r + W)-th, ... parts are process r's.

    Args:
        lengths: places of each row, none above `max_tokens`; at least one row a process.
        max_tokens: the most that a part may cost.
        processes: W.

    Returns:
        K W arrays of indices into `lengths`, the costliest first.
    """
    order = np.argsort(-lengths, kind="stable")
    longest_first: list[int] = lengths[order].tolist()
    fewest = len(_starts(longest_first, max_tokens))
    wanted = -(-fewest // processes) * processes
    low, high = longest_first[0], max_tokens  # the smallest budget that still gives no more parts
    while low < high:
        middle = (low + high) // 2
        if len(_starts(longest_first, middle)) <= wanted:
            high = middle
        else:
            low = middle + 1
    starts = _starts(longest_first, high)
    parts = list(zip(starts, [*starts[1:], len(order)], strict=True))

    while len(parts) < wanted:
        halved = [_halved(parts, place) for place, (start, end) in enumerate(parts) if end - start > 1]
        parts = min(halved, key=lambda parts: sum(_costs(parts, longest_first)[::processes]))
    costs = [(end - start) * longest_first[start] for start, end in parts]
    return [order[slice(*part)] for _, part in sorted(zip(costs, parts, strict=True), key=lambda both: -both[0])]


def _halved(parts: list[tuple[int, int]], place: int) -> list[tuple[int, int]]:
    start, end = parts[place]
    middle = (start + end) // 2
    return [*parts[:place], (start, middle), (middle, end), *parts[place + 1 :]]


def _costs(parts: list[tuple[int, int]], longest_first: list[int]) -> list[int]:
    """The costliest first: the first of every W is what a round of W processes takes."""
    return sorted(((end - start) * longest_first[start] for start, end in parts), reverse=True)


def _starts(longest_first: list[int], budget: int) -> list[int]:
    """Where parts begin when each takes as many rows as fit: no cut into runs has fewer."""
    starts, place = [], 0
    while place < len(longest_first):
        starts.append(place)
        place += budget // longest_first[place]
    return starts
