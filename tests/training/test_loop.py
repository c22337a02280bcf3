"""What a step's loss is divided by, by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from moslora_xtuner.training.loop import LOSS_DIVISOR, supervised_tokens, with_divisors


def batches(counts: list[int]) -> Iterator[Any]:
    """Batches of one row that have so many supervised tokens behind the first place, of seven."""
    for count in counts:
        labels = torch.full((1, 7), -100)
        labels[0, 1 : 1 + count] = 5
        yield {"data": {"labels": labels}}


def divisors(counts: list[int], accumulation: int) -> list[float]:
    found = with_divisors(batches(counts), accumulation, len(counts))
    return [float(batch["data"][LOSS_DIVISOR]) for batch in found]


def test_the_first_place_is_never_predicted() -> None:
    assert supervised_tokens(torch.tensor([[5, 5, -100], [-100, -100, 7]])) == 2


def test_one_micro_batch_a_step_is_its_own_mean() -> None:
    assert divisors([3, 1, 6], 1) == [3, 1, 6]


def test_accumulated_micro_batches_share_their_tokens() -> None:
    # (3 + 1) / 2 for each of two, then (6 + 2) / 2.
    assert divisors([3, 1, 6, 2], 2) == [2, 2, 4, 4]


def test_what_is_left_over_is_a_smaller_step() -> None:
    assert divisors([3, 1, 6], 2) == [2, 2, 6]


def test_reads_one_step_ahead_and_no_further() -> None:
    source = batches([1, 2, 3, 4])
    made = with_divisors(source, 2, 4)
    next(made)
    assert supervised_tokens(next(source)["data"]["labels"]) == 3


def test_the_sum_over_a_step_is_the_mean_over_its_tokens() -> None:
    """sum_g (loss_g n_g / divisor) / |G| = sum of all tokens' losses / their number."""
    counts, means = [3, 1, 6, 2], [0.5, 4.0, 1.5, 2.0]
    scaled = [mean * n / d for mean, n, d in zip(means, counts, divisors(counts, 4), strict=True)]
    assert sum(scaled) / 4 == pytest.approx(sum(m * n for m, n in zip(means, counts, strict=True)) / sum(counts))
