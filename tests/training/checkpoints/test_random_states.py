"""A process goes on drawing where another one stopped."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from moslora_xtuner.training.checkpoints.random_states import from_own_generator, restore, write


def draw() -> list[float]:
    numpys = float(np.random.rand()), float(np.random.randn())
    return [random.random(), random.gauss(0, 1), *numpys, float(torch.rand(()))]


def test_every_generator_goes_on(tmp_path: Path) -> None:
    random.gauss(0, 1)  # keeps a second number back, as NumPy's does
    np.random.randn()
    write(tmp_path / "states.pt")
    wanted = [draw() for _ in range(3)]
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    restore(tmp_path / "states.pt")
    assert [draw() for _ in range(3)] == wanted


def test_a_data_loader_takes_nothing_out_of_the_trainings() -> None:
    loader = DataLoader(list(range(4)))
    before = torch.get_rng_state()
    list(loader)
    assert not torch.equal(torch.get_rng_state(), before)  # as it is by itself
    from_own_generator(loader)
    before = torch.get_rng_state()
    assert [int(item) for item in loader] == [0, 1, 2, 3]
    assert torch.equal(torch.get_rng_state(), before)
