"""Tables from evaluated runs: means and spreads by hand, the paper's rows, differences, costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commonsense_runs import write_run
from reproduce.table4.catalogue import TABLES, Trained
from reproduce.table4.outcome import Cost, Outcome, cost_of, grid

from moslora_xtuner.errors import DataError, UsageError
from moslora_xtuner.training.artifacts import TrainingRecord


def test_seeds_the_papers_row_and_the_difference(tmp_path: Path) -> None:
    """LoRA 50 and 60 % (mean 55, deviation 7.07), MoSLoRA 70 and 80 %: 20 points, where the paper has 2.8."""
    folders = [
        write_run(tmp_path, Trained(recipe, 100.0, seed), right)
        for recipe, seed, right in (("lora", 1, 10), ("lora", 2, 12), ("moslora", 1, 14), ("moslora", 2, 16))
    ]
    made = grid(Outcome.read(folders, "commonsense"), TABLES["4"])
    assert list(made.header) == [
        "method", "seeds", "ARC-e", "OBQA", "SIQA", "ARC-c", "WinoG", "PIQA", "BoolQ", "HellaS", "mean",
        "trained", "hours", "GiB",
    ]  # fmt: skip
    rows = {row[0]: list(row[1:]) for row in made.rows}
    assert list(rows) == ["LoRA", "paper: LoRA", "MoSLoRA (Kaiming)", "paper: MoSLoRA (Kaiming)"]
    assert rows["LoRA"] == ["2", *["55.0 ± 7.1"] * 9, "–", "–", "–"]
    assert rows["paper: LoRA"] == [
        "1", "87.7", "82.8", "79.3", "75.7", "84.8", "86.7", "72.3", "93.5", "82.8", "28.3M", "8", "29",
    ]  # fmt: skip
    assert rows["paper: MoSLoRA (Kaiming)"][-4:] == ["85.6", "28.4M", "8.2", "31"]
    (said,) = [note for note in made.notes if note.startswith("MoSLoRA (Kaiming) minus LoRA")]
    assert said.startswith("MoSLoRA (Kaiming) minus LoRA: +20.0 (")
    assert said.endswith("; in the paper +2.8.")


def test_one_seed_is_compared_over_questions(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, Trained(recipe, 100.0, 1), right) for recipe, right in (("lora", 5), ("dora", 15))]
    made = grid(Outcome.read(folders, "commonsense"), TABLES["4"])
    assert made.rows[0][1:4] == ["1", "25.0", "25.0"]
    (said,) = [note for note in made.notes if " minus " in note]
    assert said.startswith("DoRA r16 minus LoRA: +50.0 (+")
    assert said.endswith("p < 0.001; in the paper +2.2.")
    assert any("not about training seeds" in note for note in made.notes)


def test_table_1_holds_each_rank_against_its_own(tmp_path: Path) -> None:
    rights = {"lora": 10, "ts_mixing": 11, "lora_r32": 16, "ts_mixing_r32": 12}
    folders = [write_run(tmp_path, Trained(recipe, 100.0, 1), right) for recipe, right in rights.items()]
    made = grid(Outcome.read(folders, "commonsense"), TABLES["1"])
    pairs = [note.split(" (")[0] + note[note.rindex(";") :] for note in made.notes if " minus " in note]
    assert pairs == [
        "TS-Mixing minus LoRA: +5.0; in the paper +1.0.",
        "TS-Mixing r32 minus LoRA r32: -20.0; in the paper +2.0.",
    ]
    assert [row[10] for row in made.rows[1::2]] == ["82.8", "83.8", "81.0", "83.0"]
    assert list(made.rows[3][1:]) == [*["–"] * 9, "83.8", *["–"] * 3]  # of which the mean alone is printed


def test_table_3_says_what_does_not_converge(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, Trained(f"moslora{start}", 100.0, 1), 10) for start in ("_zero", "_identity", "_normal", "")
    ]
    made = grid(Outcome.read(folders, "commonsense"), TABLES["3"])
    assert [row[10] for row in made.rows[1::2]] == ["does not converge", "82.6", "80.7", "85.6"]
    assert not any(note.startswith("MoSLoRA (zero)") for note in made.notes)


@pytest.mark.parametrize("group", ["small-worlds", "commonsense-greedy"])
def test_other_questions_stand_beside_no_figure_of_the_paper(tmp_path: Path, group: str) -> None:
    folders = [write_run(tmp_path, Trained(recipe, 100.0, 1), 10, group) for recipe in ("lora", "moslora")]
    made = grid(Outcome.read(folders, group), TABLES["4"])
    names = [row[0] for row in made.rows]
    text = " ".join(made.notes)
    if group == "small-worlds":
        assert names == ["LoRA", "MoSLoRA (Kaiming)"]
        assert "in the paper" not in text
        assert "Made-up questions" in text
    else:
        assert names[1] == "paper: LoRA"
        assert "Here answers are greedy, the paper's are of four beams" in text


def test_a_control_has_no_row_of_the_papers_and_a_part_of_the_questions_is_said(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, Trained(recipe, 100.0, 1), 10) for recipe in ("lora", "frozen_mixer")]
    for folder in folders:
        found = json.loads((folder / "scores.json").read_text())
        for entry in found["benchmarks"].values():
            entry["limit"] = 20
        (folder / "scores.json").write_text(json.dumps(found))
    made = grid(Outcome.read(folders, "commonsense"), TABLES["4"])
    assert [row[0] for row in made.rows] == ["LoRA", "paper: LoRA", "LoRA with a frozen mixer"]
    assert any(note.startswith("LoRA with a frozen mixer minus LoRA: +0.0") for note in made.notes)
    assert any("20" in note and "part" in note for note in made.notes), made.notes


def test_runs_that_are_no_such_runs_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, Trained("lora", 100.0, 1), 10)
    with pytest.raises(UsageError, match="each once"):
        Outcome.read([run, run], "commonsense")
    with pytest.raises(DataError, match="holds no score of small-worlds"):
        Outcome.read([run], "small-worlds")
    scores = run / "scores.json"
    scores.write_text(scores.read_text().replace("LoRA, seed 1", "my model"))
    with pytest.raises(UsageError, match="is of 'my model'"):
        Outcome.read([run], "commonsense")


def training(folder: Path, earlier: list[object]) -> Path:
    (folder / "adapters").mkdir(parents=True)
    record = TrainingRecord("base", "", "alpaca", True, -2, seconds=7200.0, trainable={"llm": 28_311_552})
    record.write(folder / "adapters")
    (folder / "run.json").write_text(json.dumps({"earlier": earlier}))
    logs = folder / "20260101" / "vis_data"
    logs.mkdir(parents=True)
    (logs / "scalars.json").write_text('{"loss": 1.0, "memory": 1024}\n{"loss": 0.5, "memory": 2048}\n{"lr": 1}\n')
    return folder


def test_costs_are_those_of_a_training_that_nothing_interrupted(tmp_path: Path) -> None:
    assert cost_of(training(tmp_path / "a", [])) == Cost(28_311_552, 2.0, 2.0)
    assert cost_of(training(tmp_path / "b", [{"step": 0}])) == Cost(28_311_552, None, 2.0)
    assert cost_of(tmp_path / "gone") is None
    trainings = tmp_path / "train"
    folders = []
    for seed, earlier in ((1, []), (2, [{"step": 3}])):
        run = Trained("lora", 100.0, seed)
        training(trainings / run.key, earlier)
        folders.append(write_run(tmp_path / "eval", run, 10))
    made = grid(Outcome.read(folders, "commonsense", trainings), TABLES["4"])
    assert list(made.rows[0][-3:]) == ["28,311,552", "2", "2.0"]
    assert "No hours of LoRA, seed 2: interrupted and taken up again." in made.notes
