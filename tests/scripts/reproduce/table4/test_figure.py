"""Figure 4: what is drawn, and what stands in its table."""

from __future__ import annotations

from pathlib import Path

import pytest
from commonsense_runs import write_run
from matplotlib import pyplot
from reproduce.table4 import figure
from reproduce.table4.catalogue import Trained
from reproduce.table4.outcome import Outcome

from moslora_xtuner.eval.tasks.registry import GROUPS

RIGHT = {("lora", 50.0): (8, 10), ("lora", 100.0): (12, 12), ("moslora", 50.0): (10, 14), ("moslora", 100.0): (14, 18)}
"""Right answers of 20 to each set but HellaSwag, for two seeds."""


def outcome(root: Path, group: str = "commonsense") -> Outcome:
    last = GROUPS[group][-1]
    folders = [
        write_run(root, Trained(*which, seed), dict.fromkeys(GROUPS[group], right) | {last: right + 1}, group)
        for which, rights in RIGHT.items()
        for seed, right in enumerate(rights, 1)
    ]
    return Outcome.read(folders, group)


def test_points_and_table_by_hand(tmp_path: Path) -> None:
    """8 of 20 in seven sets and 9 in the last: (7 x 40 + 45) / 8 = 40.625."""
    made = outcome(tmp_path)
    mean, hellaswag = figure.columns("commonsense").values()
    assert figure.points(made, "lora", mean) == {50.0: [40.625, 50.625], 100.0: [60.625, 60.625]}
    assert figure.points(made, "moslora", hellaswag) == {50.0: [55.0, 75.0], 100.0: [75.0, 95.0]}
    grid = figure.grid(made)
    assert [row[0] for row in grid.rows] == ["50", "100"]
    assert list(grid.rows[0][1:]) == ["45.6 ± 7.1", "60.6 ± 14.1", "50.0 ± 7.1", "65.0 ± 14.1", "2"]
    text = "\n".join(grid.notes)
    assert "MoSLoRA (Kaiming), 50 % minus LoRA, 50 %: +15.0 (" in text
    assert "matches neither Table 4's mean of LoRA (82.8) nor its HellaSwag (93.5)" in text
    assert text.endswith("; in the paper +2.8.")  # of all the questions alone
    assert text.count("in the paper +") == 1
    rows = figure.as_json(made)
    assert len(rows) == 8
    assert rows[0] == {
        "method": "LoRA", "per_cent": 50.0, "seed": 1, "mean of the eight sets": 40.625, "HellaSwag": 45.0,
    }  # fmt: skip


def drawn(made: Outcome, path: Path, monkeypatch: pytest.MonkeyPatch) -> pyplot.Figure:
    kept: list[pyplot.Figure] = []
    monkeypatch.setattr(pyplot, "close", kept.append)
    figure.draw(made, path)
    monkeypatch.undo()
    return kept[0]


def test_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of means at the parts, bands of a deviation about them, the paper's points beside 100 %."""
    picture = drawn(outcome(tmp_path), tmp_path / "figure.png", monkeypatch)
    first, second = picture.axes
    assert (tmp_path / "figure.png").stat().st_size > 20_000
    assert [label.get_text() for label in first.get_xticklabels()] == ["50", "100"]
    lines = {line.get_label(): line for line in first.get_lines()}
    lora = lines["LoRA, 2 seeds: mean and standard deviation"]
    assert list(lora.get_xdata()) == [50.0, 100.0]
    assert list(lora.get_ydata()) == [45.625, 60.625]
    low, high = first.collections[0].get_datalim(first.transData).intervaly
    assert (low, high) == (pytest.approx(45.625 - 50**0.5), pytest.approx(60.625))
    papers = {name: line.get_ydata()[0] for name, line in lines.items() if name.startswith("paper")}
    assert list(papers.values()) == [82.8, 85.6, 83.6]
    assert [line.get_ydata()[0] for line in second.get_lines() if line.get_label().startswith("paper")] == [93.5, 95.0]
    assert "per cent" in first.get_xlabel()
    assert picture.legends
    pyplot.close(picture)


def test_small_worlds_have_nothing_of_the_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = outcome(tmp_path, "small-worlds")
    picture = drawn(made, tmp_path / "figure.png", monkeypatch)
    assert not [line for axes in picture.axes for line in axes.get_lines() if line.get_label().startswith("paper")]
    assert not any("in the paper" in note or "Table 4" in note for note in figure.grid(made).notes)
    pyplot.close(picture)


def test_one_seed_has_no_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path, Trained("lora", 50.0, 1), 10)
    picture = drawn(Outcome.read([folder], "commonsense"), tmp_path / "figure.png", monkeypatch)
    assert next(line.get_label() for line in picture.axes[0].get_lines()) == "LoRA, one seed"
    assert not picture.axes[0].collections
    pyplot.close(picture)
