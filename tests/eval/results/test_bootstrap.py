"""Bootstrap intervals against closed forms, and paired comparisons."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.results import bootstrap
from moslora_xtuner.eval.results.bootstrap import Outcomes


def questions(scores: list[float], *, shift: int = 0) -> Outcomes:
    """Plain questions with hits 0 or 1."""
    units = tuple(str(i + shift) for i in range(len(scores)))
    return Outcomes(units, ("",) * len(scores), tuple(scores), "mean", 100.0)


def test_the_interval_is_that_of_a_binomial_share() -> None:
    outcomes = questions([1.0] * 120 + [0.0] * 80)
    found = bootstrap.interval(outcomes, "x")
    half = 100 * 1.96 * math.sqrt(0.6 * 0.4 / 200)
    assert found.estimate == pytest.approx(60.0)
    assert found.low == pytest.approx(60 - half, abs=0.8)
    assert found.high == pytest.approx(60 + half, abs=0.8)


def test_the_seed_decides() -> None:
    outcomes = questions(list(np.random.default_rng(0).integers(0, 2, 50).astype(float)))
    one, again, other = (bootstrap.interval(outcomes, "x", seed=s, resamples=101) for s in (1, 1, 3))
    assert one == again
    assert one != other


def test_mme_is_the_sum_of_its_subtasks_means() -> None:
    # count: pairs 200 and 0; scene: one pair 50 -> (100 + 50) of 400 points
    outcomes = Outcomes(("a", "b", "c"), ("count", "count", "scene"), (200.0, 0.0, 50.0), "subtask_sum", 100 / 400)
    assert outcomes.value() == pytest.approx(100 * 150 / 400)
    found = bootstrap.interval(outcomes, "MME")
    # the one pair of `scene` never varies; `count` is 0, 100 or 200 with chances 1/4, 1/2, 1/4
    assert (found.low, found.high) == (pytest.approx(12.5), pytest.approx(62.5))


def test_pairing_sees_what_separate_intervals_cannot() -> None:
    random = np.random.default_rng(3)
    base = random.integers(0, 2, 300).astype(float)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:15]] = 1.0  # never worse, better on 15 of 300: +5 points
    found = bootstrap.difference(questions(list(better)), questions(list(base)), "x")
    assert found.estimate == pytest.approx(5.0)
    half = 100 * 1.96 * math.sqrt(0.05 * 0.95 / 300)
    assert found.low == pytest.approx(5 - half, abs=0.7)
    assert found.high == pytest.approx(5 + half, abs=0.7)
    assert found.p < 0.001
    apart = bootstrap.interval(questions(list(base)), "x")
    assert apart.high - apart.low > 2 * (found.high - found.low)


def test_no_difference_has_no_small_p() -> None:
    same = questions([1.0, 0.0] * 50)
    found = bootstrap.difference(same, same, "x")
    assert (found.estimate, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_order_does_not_matter_and_other_questions_do() -> None:
    base = questions([1.0, 0.0, 1.0, 1.0])
    turned = Outcomes(base.units[::-1], base.abilities, base.scores[::-1], "mean", 100.0)
    assert bootstrap.difference(turned, base, "x").estimate == 0
    with pytest.raises(DataError, match="same questions"):
        bootstrap.difference(questions([1.0] * 4, shift=1), base, "x")


def test_the_mean_averages_independent_benchmarks() -> None:
    one, two = questions([1.0] * 60 + [0.0] * 40), questions([1.0] * 30 + [0.0] * 70)
    found = bootstrap.mean_interval({"one": one, "two": two})
    half = 100 * 1.96 * math.sqrt((0.6 * 0.4 + 0.3 * 0.7) / 100) / 2
    assert found.estimate == pytest.approx(45.0)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)
    gap = bootstrap.mean_difference({"one": two, "two": two}, {"one": one, "two": two})
    assert gap.estimate == pytest.approx(-15.0)


def test_load(tmp_path: Path) -> None:
    entry = {"overall": 50.0, "scale": 400.0, "aggregate": "subtask_sum"}
    assert bootstrap.load(tmp_path, "D", entry) is None
    (tmp_path / "outcomes").mkdir()
    path = tmp_path / "outcomes" / "D.jsonl"
    path.write_text(json.dumps({"unit": "count/1", "ability": "count", "score": 200}) + "\n")
    found = bootstrap.load(tmp_path, "D", entry)
    assert found is not None
    assert found.value() == pytest.approx(50.0)
    path.write_text('{"unit": 1}\n')
    with pytest.raises(DataError, match=r"D\.jsonl"):
        bootstrap.load(tmp_path, "D", entry)


def test_drawing_counts_of_values_is_drawing_units() -> None:
    # Against the definition: units drawn one by one, the sum of the drawn scores taken.
    scores = [0.0] * 30 + [0.3] * 10 + [0.6] * 5 + [1.0] * 15
    found = bootstrap.interval(questions(scores), "x", resamples=40_000)
    random = np.random.default_rng(7)
    drawn = 100 * np.asarray(scores)[random.integers(0, 60, (40_000, 60))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.35), pytest.approx(high, abs=0.35))


def test_subtasks_that_cancel_are_no_difference() -> None:
    # +50 in one subtask, -50 in the other, weights that are no binary fractions: the sum is 0 up to rounding
    units, tasks = ("a", "b", "c", "d", "e", "f"), ("x", "x", "x", "y", "y", "y")
    one = Outcomes(units, tasks, (50.0, 50.0, 50.0, 0.0, 0.0, 0.0), "subtask_sum", 100 / 2800)
    two = Outcomes(units, tasks, (0.0, 0.0, 0.0, 50.0, 50.0, 50.0), "subtask_sum", 100 / 2800)
    assert bootstrap.difference(one, two, "MME").p == 1
