"""Which trainings the tables and the figure share, and what each report is made of."""

from __future__ import annotations

import re

import pytest
from places import ROOT
from reproduce.table4 import runs
from reproduce.table4.catalogue import NAMES, PREFIX, ROWS_OF_TABLE4, TABLES, Trained, by_key, by_name

from moslora_xtuner.errors import UsageError
from moslora_xtuner.eval.report.paper_table4 import TABLE4
from moslora_xtuner.eval.results.run_folder import folder_name
from moslora_xtuner.eval.results.seeds import stem

ALL = (1, 3, 4)


def wanted(*, seeds: tuple[int, ...] = (7,), **options: str) -> list[Trained]:
    given = {"tables": "4", "figure": "", "methods": "", "parts": "12.5,25,50,75"} | options
    rows = runs.chosen(
        runs.words(given["tables"]), bool(given["figure"]), runs.words(given["methods"]), runs.parts_of(given["parts"])
    )
    return runs.wanted(rows, seeds)


def test_every_recipe_is_named_and_every_row_of_table_4_is_a_recipe() -> None:
    recipes = {path.stem.removeprefix(PREFIX) for path in (ROOT / "xtuner_configs").glob(f"{PREFIX}*.py")}
    assert set(NAMES) == recipes
    assert [row.name for row in ROWS_OF_TABLE4.values()] == [row.name for row in TABLE4]
    assert len(set(NAMES.values())) == len(NAMES)


def test_the_rows_are_those_that_the_recipes_say_they_are() -> None:
    """Each recipe's docstring names the paper's tables that it is of."""
    for recipe in NAMES:
        text = (ROOT / "xtuner_configs" / f"{PREFIX}{recipe}.py").read_text()
        said = set(re.findall(r"Table ([134])\b", " ".join(re.findall(r"^Paper, .*", text, re.MULTILINE))))
        assert {name for name, table in TABLES.items() if recipe in table.printed} == said, recipe


def test_the_printed_means_typed_in_once_more() -> None:
    assert list(TABLES["1"].printed.values()) == [82.8, 83.8, 81.0, 83.0]
    assert list(TABLES["3"].printed.values()) == ["does not converge", 82.6, 80.7, 84.4, 85.6]
    assert list(TABLES["4"].printed.values()) == [82.8, 80.9, 85.2, 84.2, 81.4, 85.0, 85.2, 85.6]


def test_what_one_table_trains_no_other_trains_again() -> None:
    """8 methods; 3 more in Table 1, 4 more in Table 3, and LoRA and MoSLoRA on four parts."""
    found = wanted(tables="1,3,4", figure="4", seeds=(7, 8))
    assert len(found) == len(set(found)) == 2 * (8 + 3 + 4 + 2 * 4)
    assert [run.seed for run in found] == [7] * 23 + [8] * 23
    assert len(wanted(tables="1")) == 4
    assert len(wanted(tables="3")) == 5
    assert len(wanted(tables="", figure="4")) == 10
    assert {run.part for run in wanted(tables="", figure="4", parts="50")} == {50.0, 100.0}


def test_methods_are_a_subset_and_the_control_joins_when_named() -> None:
    assert [run.recipe for run in wanted(methods="moslora,lora")] == ["lora", "moslora"]
    assert [run.recipe for run in wanted(methods="lora,frozen_mixer")] == ["lora", "frozen_mixer"]
    assert "frozen_mixer" not in {run.recipe for run in wanted(tables="1,3,4")}
    with pytest.raises(UsageError, match="nothing that is chosen has ts_mixing; it has adalora"):
        wanted(methods="lora,ts_mixing")


@pytest.mark.parametrize(
    ("run", "key", "name", "folder"),
    [
        (Trained("lora", 100.0, 42), "lora-seed-42", "LoRA, seed 42", "LoRA-seed-42"),
        (Trained("dora_r32", 100.0, 1), "dora_r32-seed-1", "DoRA r32, seed 1", "DoRA-r32-seed-1"),
        (
            Trained("moslora", 12.5, 3),
            "moslora-part-12.5-seed-3",
            "MoSLoRA (Kaiming), 12.5 %, seed 3",
            "MoSLoRA-Kaiming-12.5-seed-3",
        ),
    ],
)
def test_keys_and_names(run: Trained, key: str, name: str, folder: str) -> None:
    """A run is called as reports group seeds, and found again by what it is called."""
    assert (run.key, run.name, folder_name(run.name)) == (key, name, folder)
    assert by_key(key) == by_name(name) == run
    assert stem(run.name) == run.method


def test_no_two_runs_have_one_folder() -> None:
    found = wanted(tables="1,3,4", figure="4", seeds=(1, 2))
    assert len({folder_name(run.name) for run in found}) == len(found)
    assert by_key("lora-greedy") is by_key("other-seed-1") is by_name("LoRA") is None


def test_a_report_holds_what_was_evaluated_before() -> None:
    """Other seeds and methods of the same table; parts in the figure alone."""
    mine = [Trained("moslora", 100.0, 2)]
    before = [Trained("lora", 100.0, 1), Trained("moslora", 50.0, 1), Trained("ts_mixing", 100.0, 1), *mine]
    table = runs.of_report("table-4", mine, before)
    assert table == [Trained("lora", 100.0, 1), Trained("moslora", 100.0, 2)]
    assert runs.baseline("table-4", table) == "LoRA, seed 1"
    assert runs.of_report("figure-4", mine, before) == [before[0], before[1], mine[0]]
    assert runs.baseline("table-3", runs.of_report("table-3", mine, before)) == "MoSLoRA (Kaiming), seed 2"
    assert runs.baseline("table-1", [Trained("ts_mixing", 100.0, 1)]) == "-"


@pytest.mark.parametrize("text", ["", "a", "-1", "1,x", "1.5"])
def test_seeds_are_whole_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="give whole numbers"):
        runs.seeds_of(text)
    assert runs.seeds_of("3,1,3") == [3, 1]


@pytest.mark.parametrize("text", ["0", "101", "half", "-5", "nan"])
def test_parts_are_shares(text: str) -> None:
    with pytest.raises(UsageError, match=f"--parts {text}: give per cent"):
        runs.parts_of(text)
