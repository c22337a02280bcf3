"""The order is XTuner's, number for number, and the same on any number of processes with the same global batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, ConcatDataset
from xtuner.dataset.samplers import LengthGroupedSampler as XTuners

from moslora_xtuner.data.sampler import LengthGroupedSampler
from moslora_xtuner.errors import ConfigError, DataError

PLACES = ("moslora_xtuner.data.sampler", "xtuner.dataset.samplers.length_grouped")
with_image = st.integers(1, 9)  # few values: many rows of the same length
without = with_image.map(lambda length: -length)
data = st.one_of(*(st.lists(kind, min_size=1, max_size=90) for kind in (with_image, without, with_image | without)))


class Lengths(list):  # type: ignore[type-arg]
    """A dataset that is its own lengths."""

    @property
    def modality_length(self) -> list[int]:
        return list(self)


class Given(list):  # type: ignore[type-arg]
    """A dataset whose lengths are said apart."""

    def __init__(self, rows: Any, lengths: Any) -> None:
        super().__init__(rows)
        self.modality_length = lengths


@contextmanager
def process(rank: int, world: int, agreed: int = 0) -> Iterator[None]:
    """As if mmengine said that this is one process of so many."""
    with patch(f"{PLACES[0]}.get_dist_info", lambda: (rank, world)), \
         patch(f"{PLACES[1]}.get_dist_info", lambda: (rank, world)), \
         patch(f"{PLACES[0]}.sync_random_seed", lambda: agreed), \
         patch(f"{PLACES[1]}.sync_random_seed", lambda: agreed):  # fmt: skip
        yield


def xtuners(dataset: Any, batch: int, **options: Any) -> XTuners:
    return XTuners(dataset, batch, length_property="modality_length", **options)


@given(data, st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.sampled_from([None, 1, 3]), st.booleans())
@example([1], 4, 4, 0, None, True)  # one row, sixteen places
@example([1, -1], 1, 1, 0, None, True)  # both kinds, and no whole group
@example([5] * 40, 2, 2, 1, None, True)  # all maxima are the same
@example([*[7] * 16, *[-7] * 16], 1, 1, 0, 1, True)
def test_equals_xtuners(
    lengths: list[int], batch: int, world: int, epoch: int, groups: int | None, round_up: bool
) -> None:
    options = {"mega_batch_mult": groups, "seed": 11, "round_up": round_up}
    for rank in range(world):
        with process(rank, world):
            ours = LengthGroupedSampler(Lengths(lengths), batch, **options)
            theirs = xtuners(Lengths(lengths), batch, **options)
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert list(ours) == list(theirs)
        assert len(ours) == len(theirs)
        assert ours.total_batch_size == theirs.total_batch_size


def test_equals_xtuners_on_many_rows() -> None:
    draw = np.random.default_rng(0)
    lengths = (draw.integers(1, 2048, 20_000) * draw.choice([1, 1, 1, -1], 20_000)).tolist()
    with process(1, 4):
        assert list(LengthGroupedSampler(Lengths(lengths), 4, seed=5)) == list(xtuners(Lengths(lengths), 4, seed=5))


def test_the_order_by_hand() -> None:
    """One group: longest first. Of both kinds, each too short for a group, all are one group, by size."""
    with process(0, 1):
        assert list(LengthGroupedSampler(Lengths([3, 9, 1, 5]), 4, seed=0)) == [1, 3, 0, 2]
        assert list(LengthGroupedSampler(Lengths([3, -9, 1, -5]), 4, seed=0)) == [1, 3, 0, 2]


def test_the_seed_is_mmengines_when_none_is_given() -> None:
    lengths = Lengths(range(1, 60))
    with process(0, 1, agreed=1234):
        assert LengthGroupedSampler(lengths, 2).seed == 1234
        assert list(LengthGroupedSampler(lengths, 2)) == list(xtuners(lengths, 2))


@given(data, st.integers(0, 2))
def test_the_global_batches_do_not_depend_on_the_processes(lengths: list[int], epoch: int) -> None:
    made = []
    for world in (1, 2, 4):
        shares = []
        for rank in range(world):
            with process(rank, world):
                sampler = LengthGroupedSampler(Lengths(lengths), 8 // world, seed=3)
            sampler.set_epoch(epoch)
            shares.append(list(BatchSampler(sampler, 8 // world, drop_last=False)))
        made.append([sorted(chain(*parts)) for parts in zip(*shares, strict=True)])
    assert made[0] == made[1] == made[2]
    assert {row for batch in made[0] for row in batch} == set(range(len(lengths)))


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int16])
def test_takes_arrays_as_they_are(kind: Any) -> None:
    rows = [4, -2, 7, 7, -3, 1]
    with process(0, 1):
        ours = LengthGroupedSampler(Given(rows, np.array(rows, kind)), 2, seed=0)
        assert list(ours) == list(xtuners(Lengths(rows), 2, seed=0))


def test_takes_unsigned_lengths() -> None:
    with process(0, 1):
        assert list(LengthGroupedSampler(Given(range(4), np.array([3, 9, 1, 5], np.uint16)), 4, seed=0)) == [1, 3, 0, 2]


def test_several_datasets_in_a_row() -> None:
    parts = [Lengths([4, -2, 7]), Lengths([9, -3])]
    with process(0, 1):
        ours, theirs = (make(ConcatDataset(parts), 2, seed=0) for make in (LengthGroupedSampler, xtuners))
    assert list(ours) == list(theirs)


@given(data, st.integers(1, 3), st.integers(0, 99))
def test_skips_once(lengths: list[int], world: int, samples: int) -> None:
    with process(world - 1, world):
        sampler = LengthGroupedSampler(Lengths(lengths), 2, seed=3)
    samples = min(samples, len(sampler))
    whole = list(sampler)
    sampler.skip(samples)
    assert len(sampler) == len(whole)
    assert list(sampler) == whole[samples:]
    assert list(sampler) == whole


def test_cannot_skip_more_than_an_epoch() -> None:
    with process(0, 1):
        sampler = LengthGroupedSampler(Lengths([1, 2, 3]), 2, seed=3)
    with pytest.raises(ValueError, match="cannot skip 5 of 4"):
        sampler.skip(5)


@pytest.mark.parametrize(
    ("lengths", "named"),
    [([3, 0, 5, 0], "row 1 of the dataset has length 0 in modality_length"), ([], "0 rows"), ([1.5], "float64")],
)
def test_refuses_lengths_that_are_none(lengths: list[Any], named: str) -> None:
    with process(0, 1), pytest.raises(DataError, match=named):
        LengthGroupedSampler(Lengths(lengths), 2, seed=0)


def test_refuses_lengths_of_other_data() -> None:
    with process(0, 1), pytest.raises(DataError, match=r"has 2 rows and its modality_length the shape \(1,\)"):
        LengthGroupedSampler(Given([1, 2], [1]), 2, seed=0)


@pytest.mark.parametrize(("batch", "groups"), [(0, None), (2, 0)])
def test_refuses_empty_batches(batch: int, groups: int | None) -> None:
    with process(0, 1), pytest.raises(ConfigError, match="give 1 or more"):
        LengthGroupedSampler(Lengths([1, 2]), batch, mega_batch_mult=groups, seed=0)
