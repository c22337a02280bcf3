"""The table of disturbed trainings says what the tries say, and what is injected is what it is called."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import faults
import pytest
import torch
from bench.faults.injected import BadGradient, SomeBadPictures
from bench.faults.kinds import KINDS
from bench.faults.table import table
from bench.faults.world import Outcome
from torch import nn

from moslora_xtuner.data.dataset import TokenStore


def test_a_line_a_fault_with_what_was_lost() -> None:
    tries = [
        {"fault": "kill-rank", "survived": True, "lost": lost, "seconds": seconds}
        for lost, seconds in ((2, 40.0), (5, 50.0), (0, 30.0))
    ]
    tries += [{"fault": "kill-rank", "survived": False, "lost": 30, "seconds": 60.0}]
    tries += [{"fault": "read-only", "survived": False, "lost": 0, "seconds": 9.6}]
    assert table(tries).splitlines()[2:] == [
        "| `kill -9` of one of two processes | 4 | 3 | 2, 5 | 45 |",
        "| the place is read-only | 1 | 0 | - | 10 |",
    ]


def test_a_try_that_breaks_is_none_that_was_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(world: object) -> Outcome:
        raise AssertionError("it never began")

    monkeypatch.setitem(KINDS, "cut", ("", breaks))
    world = SimpleNamespace(work=tmp_path)
    row = faults.tried("cut", world, 0)  # type: ignore[arg-type]
    assert (row["survived"], row["said"]) == (False, "AssertionError: it never began")
    faults.keep(row, tmp_path / "kept.json")
    faults.keep(row, tmp_path / "kept.json")
    assert [kept["fault"] for kept in json.loads((tmp_path / "kept.json").read_text())["tries"]] == ["cut", "cut"]


def test_a_gradient_is_no_number_from_its_iteration_on() -> None:
    model = nn.Linear(2, 1)
    runner = SimpleNamespace(model=model, iter=0)
    BadGradient(iteration=2).before_train(runner)
    for iteration in range(4):
        runner.iter = iteration
        model.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        assert bool(torch.isfinite(model.weight.grad).all()) is (iteration < 2)  # type: ignore[arg-type]


def test_the_same_pictures_are_bad_each_time(tiny_base: Path, tiny_data: Path) -> None:
    from transformers import CLIPImageProcessor

    settings = {
        "store": str(tiny_data / "store"), "image_folder": str(tiny_data / "images"),
        "image_processor": CLIPImageProcessor.from_pretrained(tiny_base / "visual_encoder"),
    }  # fmt: skip
    some, sound = SomeBadPictures(share=0.3, **settings), TokenStore(**settings)
    seen = [n for n in range(len(sound)) if "pixel_values" in sound[n]][:40]
    bad = [bool(torch.isnan(some[n]["pixel_values"]).all()) for n in seen]
    assert 4 <= sum(bad) <= 20
    assert bad == [bool(torch.isnan(some[n]["pixel_values"]).any()) for n in seen]
    for n, wrong in zip(seen, bad, strict=True):
        assert wrong or torch.equal(some[n]["pixel_values"], sound[n]["pixel_values"])
