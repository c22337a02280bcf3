"""Several seeds of a method: who they are, their spread, and two methods compared, against scipy's own tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from scipy import stats

from moslora_xtuner.eval.results import bootstrap, seeds
from moslora_xtuner.eval.results.bootstrap import Outcomes
from moslora_xtuner.eval.results.scores import Run

NAME = "AI2D_TEST"
LORA, MIXED = (50.0, 53.0, 47.0), (60.0, 55.0, 59.0)


def run(model: str, value: float, **entry: object) -> Run:
    return Run(model, Path(), {NAME: {"overall": value, "scale": 100.0, "judge": None, **entry}})


def two_methods() -> list[Run]:
    found = [run(f"LoRA, seed {seed}", value) for seed, value in enumerate(LORA)]
    return found + [run(f"MoSLoRA seed{seed}", value) for seed, value in enumerate(MIXED)] + [run("base", 10.0)]


@pytest.mark.parametrize(
    ("model", "stem"),
    [
        ("LoRA, seed 1", "LoRA"),
        ("LoRA seed 12", "LoRA"),
        ("LoRA-seed-1", "LoRA"),
        ("LoRA_seed1", "LoRA"),
        ("LoRA (Seed = 3)", "LoRA"),
        ("a/b/seed_0", "a/b"),
        ("LLaMA-3", "LLaMA-3"),
        ("linseed 3", "linseed 3"),
        ("seed 1", "seed 1"),
        ("LoRA, seed 1, merged", "LoRA, seed 1, merged"),
    ],
)
def test_a_name_without_its_seed(model: str, stem: str) -> None:
    assert seeds.stem(model) == stem


def test_methods() -> None:
    found = seeds.methods(two_methods())
    assert [(item.name, len(item.runs)) for item in found] == [("LoRA", 3), ("MoSLoRA", 3), ("base", 1)]
    # One seed alone keeps its name; a run without a seed is none of the seeds.
    names = [item.name for item in seeds.methods([run(m, 1.0) for m in ("x, seed 1", "y", "y, seed 1", "y, seed 2")])]
    assert names == ["x, seed 1", "y", "y (seeds)"]


def test_mean_and_spread() -> None:
    lora = seeds.methods(two_methods())[0]
    found = seeds.score(lora, NAME)
    assert found is not None
    assert (found.mean, found.deviation, found.seeds) == (50.0, pytest.approx(3.0), 3)
    # A seed that lacks the score, or was judged by another one, leaves no mean.
    assert seeds.score(seeds.Method("x", (run("a", 1.0), Run("b", Path(), {}))), NAME) is None
    assert seeds.score(seeds.Method("x", (run("a", 1.0), run("b", 1.0, judge="gpt-4o-mini"))), NAME) is None


def nothing(count: int) -> list[dict[str, Outcomes]]:
    return [{} for _ in range(count)]


def test_without_outcomes_it_is_welchs_test() -> None:
    one, other = seeds.spread(MIXED), seeds.spread(LORA)
    found = seeds.difference(one, other, nothing(3), nothing(3))
    assert found is not None
    welch = stats.ttest_ind(MIXED, LORA, equal_var=False)
    interval = welch.confidence_interval()
    assert found.estimate == pytest.approx(8.0)
    assert found.p == pytest.approx(welch.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert not found.questions
    quantiles = stats.t.ppf(0.975, found.freedom) + stats.t.ppf(0.8, found.freedom)
    assert found.shows() == pytest.approx(quantiles * found.error)


def asked(values: Sequence[float]) -> dict[str, Outcomes]:
    units = tuple(map(str, range(len(values))))
    return {NAME: Outcomes(units, ("",) * len(units), tuple(values), "mean", 100.0)}


def test_the_questions_part_is_added() -> None:
    ours = [asked([1.0, 1.0, 0.0, 1.0]), asked([1.0, 0.0, 0.0, 1.0])]
    theirs = [asked([0.0, 1.0, 0.0, 1.0]), asked([0.0, 0.0, 0.0, 1.0])]
    # Averaged over seeds: 1, .5, 0, 1 and 0, .5, 0, 1: differences 1, 0, 0, 0 of variance 3/16.
    one, other = seeds.spread([75.0, 50.0]), seeds.spread([50.0, 25.0])
    found = seeds.difference(one, other, ours, theirs)
    assert found is not None
    between = 2 * (25.0**2 / 2) / 2
    assert found.error == pytest.approx(math.sqrt(between + 100**2 * 3 / 16 / 4))
    assert found.questions
    assert found.freedom == pytest.approx(found.error**4 / (2 * (25.0**2 / 2 / 2) ** 2))
    averaged = bootstrap.averaged([item[NAME] for item in ours])
    assert averaged.scores == (1.0, 0.5, 0.0, 1.0)


def test_one_seed_borrows_the_others_spread_and_two_have_none() -> None:
    found = seeds.difference(seeds.spread([57.0]), seeds.spread(LORA), nothing(1), nothing(3))
    assert found is not None
    assert found.error == pytest.approx(math.sqrt(9.0 / 1 + 9.0 / 3))
    assert seeds.difference(seeds.spread([57.0]), seeds.spread([50.0]), nothing(1), nothing(1)) is None
    # Equal seeds and no outcomes: no spread, so nothing is certain either.
    assert seeds.difference(seeds.spread([57.0] * 2), seeds.spread([50.0] * 2), nothing(2), nothing(2)) is None
