"""Micro-batches by tokens: the same records in each step, none above the budget, alike on all processes."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, SequentialSampler

from moslora_xtuner.data.sampler import LengthGroupedSampler
from moslora_xtuner.data.token_budget import TokenBudget, pack, places
from moslora_xtuner.errors import ConfigError

IMAGE_TOKENS = 6
lengths = st.lists(st.integers(1, 9) | st.integers(-9, -1), min_size=1, max_size=60)


class Records(list):  # type: ignore[type-arg]
    """A dataset that is its own lengths: negative without a picture."""

    @property
    def modality_length(self) -> list[int]:
        return list(self)


class Albums(Records):
    """A dataset whose records have as many pictures as said."""

    def __init__(self, rows: list[int], pictures: list[int]) -> None:
        super().__init__(rows)
        self.image_counts = np.array(pictures, np.int32)


def sampler(rows: Any, share: int, rank: int = 0, world: int = 1, **options: Any) -> LengthGroupedSampler:
    with patch("moslora_xtuner.data.sampler.get_dist_info", lambda: (rank, world)):
        return LengthGroupedSampler(rows, share, seed=3, **options)


def budget(rows: Any, share: int, max_tokens: int, rank: int = 0, world: int = 1) -> TokenBudget:
    return TokenBudget(sampler(rows, share, rank, world), 99, max_tokens=max_tokens, image_tokens=IMAGE_TOKENS)


def size(row: int) -> int:
    """The places of a row, by hand: a picture's mark is one of the tokens, and becomes six."""
    return row - 1 + IMAGE_TOKENS if row > 0 else -row


def cost(rows: Records, micro_batch: list[int]) -> int:
    return len(micro_batch) * max(size(rows[row]) for row in micro_batch)


@given(lengths, st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(14, 60))
def test_a_step_keeps_its_records_and_no_micro_batch_is_too_large(
    values: list[int], share: int, world: int, epoch: int, max_tokens: int
) -> None:
    rows = Records(values)
    fixed = sampler(rows, share * world)  # one process that reads all of a step
    fixed.set_epoch(epoch)
    order = list(fixed)
    every = [budget(rows, share, max_tokens, rank, world) for rank in range(world)]
    counts = list(every[0].counts(epoch))
    streams = []
    for one in every:
        one.sampler.set_epoch(epoch)
        assert list(one.counts(epoch)) == counts
        batches = list(one)
        assert len(one) == len(batches) == sum(counts)
        streams.append(iter(batches))
    steps = [order[start : start + share * world] for start in range(0, len(order), share * world)]
    assert every[0].steps == len(steps) == len(counts)
    for step, count in zip(steps, counts, strict=True):
        rounds = [[next(stream) for stream in streams] for _ in range(count)]
        assert sorted(row for parts in rounds for part in parts for row in part) == sorted(step)
        costs = [[cost(rows, part) for part in parts] for parts in rounds]
        assert max(map(max, costs)) <= max_tokens
        # What runs at the same time is alike: nothing of a round costs more than anything of the round before.
        assert all(min(before) >= max(after) for before, after in pairwise(costs))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.integers(1, 3), st.integers(30, 90))
def test_no_cut_has_fewer_or_smaller_parts(values: list[int], processes: int, max_tokens: int) -> None:
    """Against all cuts of the sorted rows into runs, tried one by one."""
    values = values * processes  # as many rows as a step has at least
    found = pack(np.array(values), max_tokens, processes)
    largest_first = sorted(values, reverse=True)

    def costs(cuts: tuple[int, ...]) -> list[int]:
        edges = [0, *cuts, len(values)]
        return [(end - start) * largest_first[start] for start, end in pairwise(edges)]

    best = {}
    for parts in range(1, len(values) + 1):
        best[parts] = min(max(costs(cuts)) for cuts in combinations(range(1, len(values)), parts - 1))
        if best[parts] <= max_tokens and parts % processes == 0:
            break
    assert len(found) == parts
    assert max(len(part) * max(values[row] for row in part) for part in found) == best[parts]


def test_by_hand() -> None:
    """Places 10, 8, 4, 4, 3, 3 in at most 16: two parts at least, {10} and the rest would be 40, so three."""
    parts = pack(np.array([4, 3, 10, 8, 4, 3]), 16, 1)
    assert [part.tolist() for part in parts] == [[3, 0], [4, 1, 5], [2]]  # they cost 16, 12 and 10


def test_two_processes_take_like_sized_parts_at_the_same_time() -> None:
    parts = pack(np.array([9, 9, 5, 5, 5, 5, 1, 1]), 10, 2)
    assert [len(part) * max([9, 9, 5, 5, 5, 5, 1, 1][row] for row in part) for part in parts] == [10, 10, 9, 9, 1, 1]


def test_pictures_count_as_their_places() -> None:
    rows = Albums([5, -4, 7], [2, 0, 1])
    assert places(sampler(rows, 1), 576).tolist() == [5 + 2 * 575, 4, 7 + 575]
    assert places(sampler(ConcatDataset([rows, rows]), 1), 576).tolist() == 2 * [1155, 4, 582]
    assert places(sampler(Records([5, -4]), 1), 576).tolist() == [580, 4]


@given(lengths, st.integers(1, 3), st.integers(0, 9))
def test_skips_steps_once(values: list[int], share: int, steps: int) -> None:
    made = budget(Records(values), share, 20)
    steps = min(steps, made.steps)
    counts, whole = list(made.counts(0)), list(made)
    made.skip(steps)
    assert list(made) == whole[sum(counts[:steps]) :]
    assert list(made) == whole
    assert list(made.counts(0, steps)) == counts[steps:]


def test_cannot_skip_more_than_an_epoch() -> None:
    with pytest.raises(ValueError, match="cannot skip 3 of 2 steps"):
        budget(Records([1, 2, 3]), 2, 20).skip(3)


def test_a_record_that_is_too_long_is_named_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"record 1 has 13 tokens with its pictures' places, max_tokens is 12"):
        budget(Records([3, 8, -9]), 2, 12)
    budget(Records([3, 8, -9]), 2, 13)


@pytest.mark.parametrize(
    "other", [SequentialSampler([1, 2, 3]), sampler(Records([1, 2, 3]), 2, round_up=False)], ids=["stock", "ragged"]
)
def test_needs_whole_global_batches(other: Any) -> None:
    with pytest.raises(ConfigError, match=r"max_tokens needs moslora_xtuner.data.sampler.LengthGroupedSampler"):
        TokenBudget(other, 2, max_tokens=20, image_tokens=IMAGE_TOKENS)


def test_each_epoch_has_its_own_cut() -> None:
    made = budget(Records([*range(1, 10), *range(-9, 0)]), 4, 30)
    first = list(made)
    loader = DataLoader(made.sampler.dataset, batch_sampler=made, collate_fn=list)  # type: ignore[var-annotated]
    loader.batch_sampler.sampler.set_epoch(1)  # type: ignore[union-attr]  # as mmengine does
    assert list(made) != first
    assert len(loader) == len(list(made)) == sum(made.counts(1))
