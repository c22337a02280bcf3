"""The learning rate follows its formula, also in runs too short for a warm-up."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.training.schedule import WarmUpCosineLR, WarmUpLinearLR


def rates(steps: int, ratio: float, peak: float = 0.1) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    wrapper = OptimWrapper(optimizer)
    scheduler = WarmUpCosineLR(wrapper, warmup_ratio=ratio, end=steps, by_epoch=False)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_hand_computed_run() -> None:
    # T = 10, w = 2: 0.05, 0.1, then cos(0), cos(pi/8), ..., cos(7 pi/8).
    wanted = [0.05, 0.1, *(0.05 * (1 + math.cos(math.pi * k / 8)) for k in range(8))]
    assert rates(10, 0.05) == pytest.approx(wanted)


def test_warm_up_takes_its_share_of_a_long_run() -> None:
    found = rates(1000, 0.03)
    assert found[:30] == pytest.approx([0.1 * (t + 1) / 30 for t in range(30)])
    assert found[29] == max(found)
    assert found[-1] < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_learn(steps: int) -> None:
    assert rates(steps, 0.03) == pytest.approx([0.05, 0.1, 0.1][:steps])


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_a_ratio_out_of_range_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match="warmup_ratio"):
        rates(10, ratio)


def test_accumulated_micro_batches_share_a_rate() -> None:
    """20 micro-batches, 4 a step: the rates of 5 steps, each held for 4."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = WarmUpCosineLR(OptimWrapper(optimizer), warmup_ratio=0.05, end=20, by_epoch=False)
    scheduler.set_accumulation(4)
    found = []
    for _ in range(20):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert found[::4] == pytest.approx(rates(5, 0.05))
    assert all(found[4 * step : 4 * step + 4] == [found[4 * step]] * 4 for step in range(5))


def test_a_step_may_be_cut_short_at_the_end() -> None:
    scheduler = WarmUpCosineLR(
        OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)),
        warmup_ratio=0.05, end=10, by_epoch=False,
    )  # fmt: skip
    scheduler.set_accumulation(4)
    assert scheduler.steps == 3


def linear_rates(steps: int, warmup: int, accumulation: int = 1) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = WarmUpLinearLR(OptimWrapper(optimizer), warmup_steps=warmup, end=steps * accumulation, by_epoch=False)
    scheduler.set_accumulation(accumulation)
    found = []
    for _ in range(steps * accumulation):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found[::accumulation]


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_line_is_that_of_transformers_but_for_its_first_step(accumulation: int) -> None:
    """Its warm-up is one step behind, since it has a rate of 0 in the first one."""
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=5, num_training_steps=20)
    wanted = []
    for _ in range(20):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    found = linear_rates(20, 5, accumulation)
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert found[5:] == pytest.approx(wanted[5:])
    assert found[:4] == pytest.approx(wanted[1:5])


def test_a_run_shorter_than_its_warm_up_ends_in_it() -> None:
    assert linear_rates(3, 100) == pytest.approx([0.001, 0.002, 0.003])


@pytest.mark.parametrize("warmup", [0, -1, 2.5])
def test_a_warm_up_that_is_no_number_of_steps_is_refused(warmup: int) -> None:
    with pytest.raises(ConfigError, match="warmup_steps"):
        linear_rates(10, warmup)
