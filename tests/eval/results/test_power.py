"""The plan of power against simulated evaluations: the paired bootstrap as reports make it, and McNemar's test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from moslora_xtuner.eval.results import bootstrap, power
from moslora_xtuner.eval.results.bootstrap import Outcomes

EVALUATIONS, BOOTSTRAPPED = 4000, 500
NOISE = 0.018
"""A standard error of a share of BOOTSTRAPPED evaluations."""


def questions(values: np.ndarray) -> Outcomes:
    units = tuple(map(str, range(len(values))))
    return Outcomes(units, ("",) * len(units), tuple(map(float, values)), "mean", 100.0)


def simulated(count: int, differing: float, difference: float, seed: int) -> np.ndarray:
    """Of each evaluation how many questions the better model alone gets right, the other alone, and the rest."""
    better, worse = (differing + difference) / 2, (differing - difference) / 2
    return np.random.default_rng(seed).multinomial(count, [better, worse, 1 - differing], EVALUATIONS)


def shown_by_the_bootstrap(counts: np.ndarray) -> float:
    """The share of evaluations whose 95 % interval leaves out 0."""
    base = questions(np.zeros(int(counts[0].sum())))
    found = 0
    for better, worse, same in counts[:BOOTSTRAPPED]:
        run = questions(np.repeat([1.0, -1.0, 0.0], [better, worse, same]))
        gap = bootstrap.difference(run, base, "x", resamples=500)
        found += gap.low > 0 or gap.high < 0
    return found / BOOTSTRAPPED


def shown_by_mcnemar(counts: np.ndarray) -> float:
    """The share with p < 0.05 in McNemar's test (normal approximation)."""
    better, worse = counts[:, 0], counts[:, 1]
    return float((2 * stats.norm.sf(np.abs(better - worse) / np.sqrt(better + worse)) < 0.05).mean())


def test_a_thousand_questions() -> None:
    # k = 1.960 + 0.842 = 2.802; 2.802 x sqrt(0.2 / (1000 + 7.85)) = 0.0395
    assert power.deviations() == pytest.approx(1.959964 + 0.841621, abs=1e-6)
    assert power.smallest(1000, 0.2) == pytest.approx(3.947, abs=1e-3)
    assert power.smallest(1000, 0.1) == pytest.approx(2.791, abs=1e-3)


@pytest.mark.parametrize(("count", "differing"), [(1000, 0.2), (1000, 0.1), (300, 0.3)])
def test_80_of_100_simulated_evaluations_show_it(count: int, differing: float) -> None:
    points = power.smallest(count, differing)
    assert points is not None
    counts = simulated(count, differing, points / 100, seed=19)
    assert shown_by_the_bootstrap(counts) == pytest.approx(0.8, abs=3 * NOISE)
    assert shown_by_mcnemar(counts) == pytest.approx(0.8, abs=0.025)
    # Where nearly all that differ must agree, more than 80 of 100 show it.
    few = power.smallest(100, 0.1)
    assert few is not None
    assert shown_by_the_bootstrap(simulated(100, 0.1, few / 100, seed=5)) > 0.8
    # Half of it is mostly missed, and no difference is found in 5 of 100.
    assert shown_by_mcnemar(simulated(count, differing, points / 200, seed=20)) < 0.35
    assert shown_by_mcnemar(simulated(count, differing, 0.0, seed=21)) == pytest.approx(0.05, abs=0.025)


def test_the_standard_error_is_that_of_the_draws() -> None:
    random = np.random.default_rng(2)
    one, two = (questions(random.choice([0.0, 0.3, 1.0], 400)) for _ in range(2))
    gap = bootstrap.difference(one, two, "x")
    assert bootstrap.standard_error(one, two) == pytest.approx((gap.high - gap.low) / (2 * 1.96), rel=0.03)
    # By hand: one of four questions differs, by 1: variance 1/4 - 1/16, over 4, in points.
    four = [questions(np.array(values)) for values in ([1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0])]
    assert bootstrap.standard_error(*four) == pytest.approx(100 * math.sqrt(3 / 16 / 4))
    # Subtasks keep their size: within each nothing differs, so there is no error although they differ from another.
    units, tasks = ("a", "b", "c", "d"), ("x", "x", "y", "y")
    mine = Outcomes(units, tasks, (200.0, 200.0, 50.0, 50.0), "subtask_sum", 0.25)
    base = Outcomes(units, tasks, (0.0,) * 4, "subtask_sum", 0.25)
    assert bootstrap.standard_error(mine, base) == pytest.approx(0, abs=1e-9)
    mean = bootstrap.mean_standard_error({"a": one, "b": one}, {"a": two, "b": two})
    assert mean == pytest.approx(bootstrap.standard_error(one, two) / math.sqrt(2))


def test_too_few_differing_questions_show_nothing() -> None:
    assert power.smallest(100, 0.05) is None  # all five in favour of one model are p = 0.06
    assert power.smallest(100, 0.0) is None
    for wrong in ((0, 0.2), (100, 1.1), (100, -0.1)):
        with pytest.raises(ValueError, match="share"):
            power.smallest(*wrong)


def test_questions_for_a_difference() -> None:
    count = power.questions_for(2.0, 0.1)
    points = power.smallest(count, 0.1)
    before = power.smallest(count - 1, 0.1)
    assert points is not None
    assert before is not None
    assert points <= 2.0 < before
    with pytest.raises(ValueError, match="difference"):
        power.questions_for(20.0, 0.1)
