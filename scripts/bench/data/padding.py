"""Padding and size of micro-batches on a token store: a fixed number of records against a budget of tokens, counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from moslora_xtuner.data.sampler import LengthGroupedSampler, Rows
from moslora_xtuner.data.token_budget import places, steps_of

PROCESSES, ROWS, ACCUMULATION = 4, 8, 2
"""LLaMA-3's recipe on four GPUs."""
IMAGE_TOKENS = 576
BUDGETS = (4_096, 8_192, 16_384)


def count(store: Any) -> dict[str, Any]:
    """Of an epoch's micro-batches, for each way of cutting the same steps.

    Args:
        store: has a length, `modality_lengths` and `image_counts`, as `TokenStore`.
    """
    sampler = LengthGroupedSampler(store, ROWS * ACCUMULATION * PROCESSES, "modality_lengths", seed=1024)
    sizes = places(sampler, IMAGE_TOKENS)
    ways = {f"{ROWS} records": fixed_steps(sampler)}
    ways |= {f"{budget:,} tokens": steps_of(sampler, sizes, budget, PROCESSES) for budget in BUDGETS}
    return {"records": len(store), "rows": [{"cut": name, **counted(steps, sizes)} for name, steps in ways.items()]}


def fixed_steps(sampler: LengthGroupedSampler) -> Iterator[list[Rows]]:
    """Process r of W takes every W-th row from r on, and a micro-batch is so many of them in turn."""
    for rows in sampler.order(0).reshape(-1, sampler.total_batch_size):
        shares = [rows[rank::PROCESSES].reshape(ACCUMULATION, ROWS) for rank in range(PROCESSES)]
        yield [share[turn] for turn in range(ACCUMULATION) for share in shares]


def counted(steps: Iterator[list[Rows]], sizes: Rows) -> dict[str, Any]:
    """Places computed and padded, micro-batches a process, places that the processes wait for, the largest."""
    real, costs, turns, waited = 0, [0], [], 0
    for parts in steps:
        each = [len(part) * int(sizes[part].max()) for part in parts]
        real += sum(int(sizes[part].sum()) for part in parts)
        costs += each
        turns.append(len(parts) // PROCESSES)
        waited += sum(max(each[turn : turn + PROCESSES]) for turn in range(0, len(each), PROCESSES))
    computed = sum(costs)
    return {
        "padding": 1 - real / computed,
        "micro_batches": float(np.mean(turns)),
        "most_micro_batches": max(turns),
        "idle": 1 - computed / (waited * PROCESSES),
        "largest": max(costs),
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| a micro-batch is | padding | micro-batches a step and GPU | at most | GPUs wait | largest, tokens |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        lines.append(
            f"| {row['cut']} | {100 * row['padding']:.1f} % | {row['micro_batches']:.2f} | "
            f"{row['most_micro_batches']} | {100 * row['idle']:.1f} % | {row['largest']:,} |"
        )
    return "\n".join(lines)
