"""Every record once, all processes as often and through the same layers."""

from __future__ import annotations

import numpy as np
import pytest

from moslora_xtuner.training.validation.dealing import Batch, deal

PLACES = np.array([5, 40, 7, 30, 9, 3, 22, 8])
ALL = np.arange(8)
PICTURED = np.array([False, True, False, True, False, False, True, False])


@pytest.mark.parametrize("processes", [1, 2, 3, 8, 11])
@pytest.mark.parametrize("records", [1, 2, 3, 100])
def test_each_record_counts_once(processes: int, records: int) -> None:
    dealt = deal(ALL, PLACES, PICTURED, records, None, processes)
    counted = sorted(row for own in dealt for batch in own if batch.counts for row in batch.rows)
    assert counted == list(range(len(PLACES)))
    assert len({len(own) for own in dealt}) == 1
    for together in zip(*dealt, strict=True):  # ZeRO-3 would wait for ever, or gather other weights
        assert len({bool(PICTURED[row]) for batch in together for row in batch.rows}) == 1


def test_the_longest_first_by_hand() -> None:
    one, two = deal(ALL, PLACES, PICTURED, 2, None, 2)
    assert one == [Batch((1, 3), True), Batch((4, 7), True), Batch((5,), True)]
    assert two == [Batch((6,), True), Batch((2, 0), True), Batch((5,), False)]


def test_a_bound_of_places_counts_the_padding() -> None:
    (own,) = deal(ALL, PLACES, PICTURED, 100, 24, 1)
    assert [batch.rows for batch in own] == [(1,), (3,), (6,), (4, 7), (2, 0, 5)]  # 9 + 9; 7 + 7 + 7


def test_only_the_chosen() -> None:
    (own,) = deal(np.array([1, 4, 6]), PLACES, PICTURED, 2, None, 1)
    assert [batch.rows for batch in own] == [(1, 6), (4,)]
