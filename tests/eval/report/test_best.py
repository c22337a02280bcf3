"""What is marked as best."""

from __future__ import annotations

import pytest

from moslora_xtuner.eval.report.best import best_of


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([], set()),
        ([1.0], set()),
        ([1.0, None], set()),
        ([1.0, 2.0], {1}),
        ([2.0, None, 2.0, 1.0], {0, 2}),
        ([0.1 + 0.2, 0.3, 0.0], {0, 1}),
        ([2.0, 2.0], set()),  # nothing to choose from
        ([0.0, None, 0.0], set()),
    ],
)
def test_best(values: list[float | None], places: set[int]) -> None:
    assert best_of(values) == places
