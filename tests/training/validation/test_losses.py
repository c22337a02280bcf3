"""Which of some losses is the best."""

from __future__ import annotations

import json
import math

import pytest

from moslora_xtuner.errors import TrainingError
from moslora_xtuner.training.validation.losses import Loss, as_json, best, from_json


def losses(*found: float) -> list[Loss]:
    return [Loss.of(10 * place, loss) for place, loss in enumerate(found, 1)]


@pytest.mark.parametrize(
    ("found", "step"),
    [
        ((3.0, 2.0, 4.0), 20),
        ((2.0, 2.0, 2.0), 10),  # alike: the earlier
        ((math.nan, 5.0, math.nan), 20),
        ((-math.inf, 5.0, math.inf), 20),  # minus infinity is no loss
        ((0.0, -1e-9), 20),
    ],
)
def test_the_lowest_that_is_a_number(found: tuple[float, ...], step: int) -> None:
    lowest = best(losses(*found))
    assert lowest is not None
    assert lowest.step == step


def test_none_is_a_number() -> None:
    assert best([]) is None
    assert best(losses(math.nan, math.inf)) is None


def test_as_files_hold_them() -> None:
    made = losses(1 / 3, math.nan)
    text = json.dumps(as_json(made), allow_nan=False)
    assert from_json(json.loads(text), "f") == made == [Loss(10, 1 / 3), Loss(20, None)]
    for odd in (None, [[1]], [["a", "b"]], 5):
        with pytest.raises(TrainingError, match="f does not hold validation losses"):
            from_json(odd, "f")
