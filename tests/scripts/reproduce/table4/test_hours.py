"""Whose hours a training is given, and what becomes of them on more GPUs and on parts of the questions."""

from __future__ import annotations

import pytest
from places import ROOT
from reproduce.table4.catalogue import LINES, NAMES, PARTS, RECORDS, TABLES, Trained
from reproduce.table4.hours import QUESTIONS, assumed, training


def of(recipe: str, part: float = 100.0, *, gpus: int = 1, small: bool = False, formula: float | None = None) -> float:
    return training(Trained(recipe, part, 1), gpus, small, formula, 125.0)[0]


def test_the_papers_hours_shared_out() -> None:
    assert of("lora") == 8.0
    assert of("lokr") == 26.3
    assert of("moslora_normal") == of("frozen_mixer") == of("moslora") == 8.2
    assert of("ts_mixing_r32") == 8.0
    assert of("lora", gpus=4) == 2.0
    assert of("lora", 12.5) == 1.0
    assert of("moslora", 50.0, gpus=2) == pytest.approx(2.05)
    assert all(of(recipe) > 0 for recipe in NAMES)


def test_the_sums_that_the_page_gives() -> None:
    """docs/commonsense.md: hours of Table 4, and what Tables 1 and 3 and figure 4 add to them."""
    first = {name: {(recipe, 100.0) for recipe in table.printed} for name, table in TABLES.items()}
    first["figure"] = {(recipe, part) for recipe in LINES for part in PARTS}
    hours = [sum(of(*run) for run in first["4"])]
    hours += [sum(of(*run) for run in first[name] - first["4"]) for name in ("1", "3", "figure")]
    page = (ROOT / "docs" / "commonsense.md").read_text()
    said = "a seed of Table 4 is {:.0f} h of training and 10 h of evaluation (of which LoKr and LoHa are 52 h)"
    assert said.format(hours[0]) in page
    assert "Table 1 adds {:.0f} h, Table 3 {:.0f} h, figure 4 {:.0f} h of training".format(*hours[1:]) in page
    assert of("lokr") + of("loha") == pytest.approx(52, abs=0.5)
    assert 8 * assumed(1, "commonsense")["eval"][0] == pytest.approx(10, abs=0.05)


def test_whose_they_are_is_said() -> None:
    run = Trained("moslora_zero", 25.0, 1)
    said = training(run, 2, False, None, 125.0)[1]
    assert said == (
        "Table 4's 8.2 h of MoSLoRA (Kaiming) on an A100 80 GB, shared out to 2 GPUs, for 25 % of the questions"
    )
    said = training(Trained("loha", 100.0, 1), 4, False, 1.0, 400.0)[1]
    assert said.startswith("formula of docs/plan.md, the token store's records, 400 TFLOP/s on each of 4 GPUs")
    assert said.endswith("times 3.2 as Table 4 has LoHa to LoRA")


def test_the_formula_counts_lora_and_table_4_the_others() -> None:
    """The formula knows nothing of what LoHa does; the ratio of the paper's hours does."""
    assert of("lora", formula=3.0) == 3.0
    assert of("loha", formula=3.0) == pytest.approx(3.0 * 25.5 / 8.0)
    assert of("lora", 12.5, gpus=4, formula=3.0) == pytest.approx(3.0 / 8)  # the formula has counted the GPUs


def test_what_nobody_knows_is_not_estimated() -> None:
    assert training(Trained("lora", 100.0, 1), 0, False, None, 125.0) == (0.0, "NOT estimated: on the CPU")
    assert training(Trained("lora", 100.0, 1), 1, True, None, 125.0)[1].startswith("NOT estimated")


def test_the_counts_are_the_papers() -> None:
    """31,929 steps of the authors: three epochs of 16 records, what is left over dropped."""
    assert 3 * (RECORDS // 16) == 31_929
    assert QUESTIONS["commonsense"] == 2376 + 500 + 1954 + 1172 + 1267 + 1838 + 3270 + 10042
    beams, greedy = (assumed(1, group)["eval"][0] for group in ("commonsense", "commonsense-greedy"))
    assert beams == pytest.approx(4 * greedy)
