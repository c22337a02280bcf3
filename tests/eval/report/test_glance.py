"""Each run in one line: what is known, and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from moslora_xtuner.eval.report import glance
from moslora_xtuner.eval.results import manifest
from moslora_xtuner.eval.results.manifest import DatasetRecord, Made, Manifest
from moslora_xtuner.eval.results.scores import Run

ENTRY = {"AI2D_TEST": {"overall": 1.0, "scale": 100.0}}


def test_what_runs_say_of_themselves() -> None:
    source = {"seed": 3, "seconds": 71_000, "trainable": {"llm": 1_000_000, "projector": 500},
              "validation": {"step": 1600, "loss": 0.43219, "keep": "best", "times": 3}}  # fmt: skip
    made = Made(precision="bf16", machine="one GPU")
    record = DatasetRecord(seconds={"inference": 300.0, "scoring": 60.0, "answered": 10.0}, made=made)
    trained = Manifest(facts={"export": {"source": source}}, made=made, datasets={"AI2D_TEST": record})
    served = Manifest(facts={"served_by": "http://host/v1", "seed": 0}, made=Made(machine="my laptop"))
    found = glance.grid([Run("a", Path(), ENTRY, trained), Run("b", Path(), ENTRY, served)])
    assert found is not None
    assert list(found.header) == list(glance.HEADER)
    assert found.rows == [
        ["a", "3", "1,000,500", "19.7 h", "iteration 1,600, validation loss 0.4322, the lowest of 3", "6 min", "bf16",
         "one GPU"],
        ["b", "0", "–", "–", "–", "–", "–", "served by http://host/v1"],
    ]  # fmt: skip
    assert glance.grid([Run("a", Path(), ENTRY)]) is None
    asked = glance.grid([Run("a", Path(), ENTRY, Manifest(facts={"adapter_of": "iteration 5"}))])
    assert asked is not None
    assert asked.rows == [["a", "iteration 5"]]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, ""), (0.4, "0.4 s"), (48.2, "48 s"), (720.0, "12 min"), (5400.0, "90 min"), (9000.0, "2.5 h")],
)
def test_times(seconds: float, text: str) -> None:
    assert glance.time_text(seconds) == text


def test_a_machine_is_named_by_what_computes() -> None:
    assert manifest.machine(["NVIDIA H200"] * 2 + ["T4"]).startswith("2 x NVIDIA H200, T4, ")
    assert " cores, " in manifest.machine()
