"""Optimiser steps of a changing number of micro-batches, for mmengine's wrapper and for DeepSpeed's engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size

from ..data.token_budget import TokenBudget
from ..data.tokens.tokenise import IGNORE_INDEX
from ..errors import ConfigError

LOSS_DIVISOR = "loss_divisor"
"""The key under which a batch carries what the sum of its tokens' losses is divided by."""


def require_global_mean(loss_mean: str) -> None:
    """Refuse a loss that would depend on how a budget cuts the step.

    Raises:
        ConfigError: it is not `global_batch`.
    """
    if loss_mean != "global_batch":
        raise ConfigError(
            f"train_cfg.max_tokens with loss_mean {loss_mean!r}: a token would count more in a micro-batch that has "
            "few, and so the loss would follow the cut; set train_cfg.loss_mean to global_batch"
        )


def budgeted(runner: Any, dataloader: Any, max_tokens: int) -> Any:
    """The data loader of a config, with micro-batches of at most `max_tokens` places.

    Raises:
        ConfigError: it has a batch sampler already, or a step's records are told in two ways that differ.
    """
    if dataloader.get("batch_sampler") is not None:
        raise ConfigError("train_cfg.max_tokens makes the batches: take train_dataloader.batch_sampler out")
    share, alike = dataloader["sampler"].get("per_device_batch_size"), dataloader["batch_size"] * accumulation(runner)
    if share is not None and share != alike:
        raise ConfigError(
            f"a GPU's share of a step is {share} records by train_dataloader.sampler.per_device_batch_size and {alike} "
            "by train_dataloader.batch_size x optim_wrapper.accumulative_counts: set them alike"
        )
    changed = dataloader.copy()
    image_tokens = dataloader["collate_fn"]["image_tokens"]
    changed["batch_sampler"] = {"type": TokenBudget, "max_tokens": max_tokens, "image_tokens": image_tokens}
    ranks_differ = runner._randomness_cfg.get("diff_rank_seed", False)
    return runner.build_dataloader(changed, seed=runner.seed, diff_rank_seed=ranks_differ)


def accumulation(runner: Any) -> int:
    """How many micro-batches one process reads for a step; under DeepSpeed its own config says so."""
    found = getattr(getattr(runner, "strategy", None), "config", None) or {}
    return int(found.get("gradient_accumulation_steps") or runner.cfg.optim_wrapper.get("accumulative_counts", 1))


def in_steps(batches: Iterator[Any], budget: TokenBudget, done: int = 0) -> Iterator[list[Any]]:
    """The batches of each step together, with the divisors of their losses, epoch after epoch.

    Args:
        batches: of a data loader over `budget`.
        budget: says how many there are in a step.
        done: steps that came before, counted over all epochs.
    """
    begun, first = divmod(done, budget.steps)
    for epoch in count(begun):
        for size in budget.counts(epoch, first):
            group = [next(batches) for _ in range(size)]
            set_divisors(group)
            yield group
        first = 0


def set_divisors(group: Sequence[Any]) -> None:
    """Give each micro-batch of a step the divisor of its loss.

    The optimiser averages over the |G| micro-batches of a step, so each is divided by sum_g n(g) / |G|.
    """
    tokens = torch.tensor(sum(supervised_tokens(batch["data"]["labels"]) for batch in group))
    all_reduce(tokens)
    for batch in group:
        batch["data"][LOSS_DIVISOR] = tokens / (len(group) * get_world_size())


def supervised_tokens(labels: torch.Tensor) -> int:
    """The tokens that have a loss: a row's first is never predicted."""
    return int((labels[:, 1:] != IGNORE_INDEX).sum())


def train_step(model: Any, optim_wrapper: Any, group: Sequence[Any]) -> dict[str, Any]:
    """One step of the optimiser over all micro-batches of `group`; returns the means of what they log.

    Raises:
        ConfigError: DeepSpeed's optimiser is offloaded to the CPU and keeps the last micro-batch's gradient alone.
    """
    engine = model.model if hasattr(getattr(model, "model", None), "set_gradient_accumulation_boundary") else None
    if engine is None:
        # mmengine keeps the number to itself, though `update_params` and `no_sync` ask for it each time.
        optim_wrapper._accumulative_counts = len(group)
        optim_wrapper._inner_count, optim_wrapper._max_counts = 0, -1
    else:
        require_accumulating(engine)
        engine.set_train_batch_size(engine.train_micro_batch_size_per_gpu() * engine.dp_world_size * len(group))
    logged = []
    for place, batch in enumerate(group, 1):
        if engine is not None:
            engine.set_gradient_accumulation_boundary(place == len(group))
        logged.append(model.train_step(batch, optim_wrapper=optim_wrapper))
    with torch.no_grad():
        return {name: sum(found[name] for found in logged) / len(logged) for name in logged[0]}


def require_accumulating(engine: Any) -> None:
    """Refuse what would lose gradients: deepspeed 0.17 decides at its start whether offloaded ones are added up.

    Raises:
        ConfigError: it decided not to.
    """
    optimiser = engine.optimizer
    if getattr(optimiser, "cpu_offload", False) and getattr(optimiser, "gradient_accumulation_steps", 2) == 1:
        raise ConfigError(
            "offload_optimizer and max_tokens: DeepSpeed would keep the last micro-batch's gradient alone; set "
            "optim_wrapper.accumulative_counts to 2 or more and train_dataloader.batch_size to so much less"
        )
