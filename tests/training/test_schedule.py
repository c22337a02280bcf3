"""The learning rate follows its formula, also in runs too short for a warm-up."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.training.schedule import WarmUpCosineLR


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
