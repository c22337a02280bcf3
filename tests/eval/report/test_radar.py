"""The radar's numbers and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from moslora_xtuner.eval.report import radar
from moslora_xtuner.eval.results.scores import Run
from moslora_xtuner.eval.tasks.registry import ABILITIES

LORA = (60.0, 70.0, 50.0, 80.0, 0.0, 66.0)
MIXED = (75.0, 35.0, 50.0, 88.0, 0.0, 55.0)


def a_run(name: str, values: tuple[float, ...]) -> Run:
    """A run with both radars' abilities; Chinese 10 points lower."""
    entries: dict[str, dict[str, Any]] = {}
    for dataset, off in (("DigitsMMBench_EN", 0), ("DigitsMMBench_CN", 10)):
        abilities = {a: max(0.0, v - off) for a, v in zip(ABILITIES, values, strict=True)}
        entries[dataset] = {"overall": 50.0, "scale": 100.0, "judge": None, "abilities": abilities}
    return Run(name, Path(), entries)


def test_each_axis_is_divided_by_its_best() -> None:
    english, chinese = radar.panels([a_run("LoRA", LORA), a_run("MoSLoRA", MIXED)], "digits")
    found = radar.normalise(english)
    assert found["LoRA"] == pytest.approx((0.8, 1.0, 1.0, 80 / 88, 0.0, 1.0))
    assert found["MoSLoRA"] == pytest.approx((1.0, 0.5, 1.0, 1.0, 0.0, 55 / 66))
    assert "English" in english.title
    assert "Chinese" in chinese.title
    assert chinese.values["LoRA"][0] == 50.0


def test_the_range_shows_differences() -> None:
    near = [a_run("a", (70, 70, 70, 70, 70, 70)), a_run("b", (68, 70, 70, 70, 70, 70))]
    assert radar.lower_end(radar.panels(near, "digits")) == pytest.approx(0.9)
    assert radar.lower_end(radar.panels([a_run("a", LORA)], "digits")) == 0.0


def test_a_run_without_all_six_is_not_drawn() -> None:
    run = a_run("a", LORA)
    del run.benchmarks["DigitsMMBench_EN"]["abilities"]["RR"]
    assert [panel.dataset for panel in radar.panels([run], "digits")] == ["DigitsMMBench_CN"]
    assert radar.panels([run], "paper") == []


def test_files_are_drawn_and_the_same_each_time(tmp_path: Path) -> None:
    runs = [a_run("LoRA", LORA), a_run("MoSLoRA", MIXED)]
    written = radar.write(runs, "digits", tmp_path)
    assert [path.name for path in written] == ["radar.png", "radar.svg", "radar_absolute.png", "radar_absolute.svg"]
    before = [path.read_bytes() for path in written]
    assert before[0] != before[2]
    for path in (written[0], written[2]):
        with Image.open(path) as picture:
            assert picture.width > picture.height > 800
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
        assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours
    assert [path.read_bytes() for path in radar.write(runs, "digits", tmp_path)] == before
    assert radar.write(runs, "paper", tmp_path) == []


def test_the_absolute_radar_draws_the_scores_themselves() -> None:
    shown = radar.panels([a_run("LoRA", LORA), a_run("MoSLoRA", MIXED)], "digits")
    figure = radar.draw_for_page(shown[0], shown, absolute=True)
    axes = figure.axes[0]
    drawn = {line.get_label(): tuple(line.get_ydata()) for line in axes.lines}
    assert drawn == {"LoRA": (*LORA, LORA[0]), "MoSLoRA": (*MIXED, MIXED[0])}
    assert axes.get_ylim() == (0, 100)
    relative = radar.draw_for_page(shown[0], shown).axes[0]
    assert tuple(relative.lines[0].get_ydata()) == pytest.approx((0.8, 1, 1, 80 / 88, 0, 1, 0.8))
    assert "rim = 100" in radar.caption(shown, absolute=True)
    assert "best = 1.0; centre = 0.0" in radar.caption(shown, absolute=False)
    plt.close("all")


def test_letters_are_large_enough_on_a_telephone() -> None:
    shown = radar.panels([a_run("LLaMA-3+ViT MoSLoRA (orthogonal)", LORA), a_run("LLaMA-3+ViT LoRA", MIXED)], "digits")
    figure = radar.draw_for_page(shown[0], shown)
    pixels = 328 / figure.get_figwidth() / 72  # of a page 360 wide, for each point of a letter
    axes = figure.axes[0]
    assert min(tick.get_fontsize() for tick in axes.get_xticklabels()) * pixels > 13
    assert min(tick.get_fontsize() for tick in axes.get_yticklabels()) * pixels > 9
    figure.canvas.draw()
    whole = figure.bbox
    for text in [*axes.get_xticklabels(), *figure.legends[0].get_texts()]:
        box = text.get_window_extent()
        assert whole.x0 <= box.x0, text.get_text()
        assert box.x1 <= whole.x1, text.get_text()
    plt.close("all")


@pytest.mark.parametrize("models", [1, 2, 3, 5])
def test_nothing_is_cut_off_and_no_letters_lie_on_others(models: int) -> None:
    """Legend, title and names of the axes, on the page and in the files."""
    shown = radar.panels([a_run(f"model {number}", LORA) for number in range(models)], "digits")
    for figure in (radar.draw_for_page(shown[0], shown), radar.draw(shown)):
        figure.canvas.draw()
        polar = [axes for axes in figure.axes if axes.name == "polar"]
        names = [label for axes in polar for label in axes.get_xticklabels()]
        texts = [*names, *(axes.title for axes in polar), *figure.legends[0].get_texts()]
        boxes = {text.get_text() + str(place): text.get_window_extent() for place, text in enumerate(texts)}
        boxes |= {f"table {place}": axes.bbox for place, axes in enumerate(figure.axes) if axes not in polar}
        for name, box in boxes.items():
            assert figure.bbox.y0 <= box.y0, name
            assert box.y1 <= figure.bbox.y1, name
            assert [other for other in boxes if other != name and box.overlaps(boxes[other])] == [], name
    plt.close("all")
