"""The radar's numbers and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from matplotlib.offsetbox import AnnotationBbox
from matplotlib.text import Text
from PIL import Image

from moslora_xtuner.eval.report import radar, radar_scale
from moslora_xtuner.eval.results.scores import Run
from moslora_xtuner.eval.tasks.registry import ABILITIES, GROUPS, STANDS_IN

DIGITS = GROUPS["digits"]
LORA = (60.0, 70.0, 50.0, 80.0, 0.0, 66.0)
MIXED = (75.0, 35.0, 50.0, 88.0, 0.0, 55.0)


def a_run(name: str, values: tuple[float, ...]) -> Run:
    """A run with both radars' abilities; Chinese 10 points lower."""
    entries: dict[str, dict[str, Any]] = {}
    for dataset, off in (("DigitsMMBench_EN", 0), ("DigitsMMBench_CN", 10)):
        abilities = {a: max(0.0, v - off) for a, v in zip(ABILITIES, values, strict=True)}
        entries[dataset] = {"overall": 50.0, "scale": 100.0, "judge": None, "abilities": abilities}
    return Run(name, Path(), entries)


def labels(axes: Any) -> list[Any]:
    """What stands at the axes."""
    return [artist for artist in axes.artists if isinstance(artist, AnnotationBbox)]


def test_each_axis_is_divided_by_its_best() -> None:
    english, chinese = radar_scale.panels([a_run("LoRA", LORA), a_run("MoSLoRA", MIXED)], DIGITS)
    found = radar_scale.normalise(english)
    assert found["LoRA"] == pytest.approx((0.8, 1.0, 1.0, 80 / 88, 0.0, 1.0))
    assert found["MoSLoRA"] == pytest.approx((1.0, 0.5, 1.0, 1.0, 0.0, 55 / 66))
    assert "English" in english.title
    assert "Chinese" in chinese.title
    assert chinese.values["LoRA"][0] == 50.0


def test_the_range_shows_differences() -> None:
    near = [a_run("a", (70, 70, 70, 70, 70, 70)), a_run("b", (68, 70, 70, 70, 70, 70))]
    assert radar_scale.lower_end(radar_scale.panels(near, DIGITS)) == pytest.approx(0.9)
    assert radar_scale.lower_end(radar_scale.panels([a_run("a", LORA)], DIGITS)) == 0.0


def test_a_run_without_all_six_is_not_drawn() -> None:
    run = a_run("a", LORA)
    del run.benchmarks["DigitsMMBench_EN"]["abilities"]["RR"]
    assert [panel.dataset for panel in radar_scale.panels([run], DIGITS)] == ["DigitsMMBench_CN"]
    assert radar_scale.panels([run], GROUPS["paper"]) == []


def test_seeds_of_a_method_are_one_line() -> None:
    runs = [a_run("LoRA, seed 1", LORA), a_run("LoRA, seed 2", MIXED), a_run("base", LORA)]
    (english, _) = radar_scale.panels(runs, DIGITS)
    assert english.values["LoRA (2 seeds)"] == pytest.approx((67.5, 52.5, 50.0, 84.0, 0.0, 60.5))
    assert set(english.values) == {"LoRA (2 seeds)", "base"}
    runs[1].benchmarks["DigitsMMBench_EN"]["judge"] = "gpt-4o-mini"
    assert set(radar_scale.panels(runs, DIGITS)[0].values) == {"LoRA, seed 1", "LoRA, seed 2", "base"}


def test_what_stands_in_for_a_test_set_is_drawn_in_its_place() -> None:
    run = a_run("a", LORA)
    entries = {
        STANDS_IN["MMBench_TEST_EN"]: run.benchmarks["DigitsMMBench_EN"],
        "my_table": {"overall": 1, "scale": 100},
    }
    shown = radar_scale.panels([Run("a", Path(), entries)], [*entries, "AI2D_TEST"])
    assert [panel.title for panel in shown] == ["English (MMB-EN-V11)"]


def test_files_are_drawn_and_the_same_each_time(tmp_path: Path) -> None:
    runs = [a_run("LoRA", LORA), a_run("MoSLoRA", MIXED)]
    written = radar.write(runs, DIGITS, tmp_path)
    assert [path.name for path in written] == ["radar.png", "radar.svg", "radar_absolute.png", "radar_absolute.svg"]
    before = [path.read_bytes() for path in written]
    assert before[0] != before[2]
    for path in (written[0], written[2]):
        with Image.open(path) as picture:
            assert picture.width > picture.height > 800
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
        assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours
    assert [path.read_bytes() for path in radar.write(runs, DIGITS, tmp_path)] == before
    assert radar.write(runs, GROUPS["paper"], tmp_path) == []


def test_the_absolute_radar_draws_the_scores_themselves() -> None:
    shown = radar_scale.panels([a_run("LoRA", LORA), a_run("MoSLoRA", MIXED)], DIGITS)
    figure = radar.draw_for_page(shown[0], shown, absolute=True)
    axes = figure.axes[0]
    drawn = {line.get_label(): tuple(line.get_ydata()) for line in axes.lines}
    assert drawn == {"LoRA": (*LORA, LORA[0]), "MoSLoRA": (*MIXED, MIXED[0])}
    assert axes.get_ylim() == (0, 90)  # the next ten above 88
    relative = radar.draw_for_page(shown[0], shown).axes[0]
    assert tuple(relative.lines[0].get_ydata()) == pytest.approx((0.8, 1, 1, 80 / 88, 0, 1, 0.8))
    assert "rim = 90" in radar_scale.caption(shown, absolute=True)
    assert "best = 1.0; centre = 0.0" in radar_scale.caption(shown, absolute=False)
    plt.close("all")


def test_letters_are_large_enough_on_a_telephone() -> None:
    shown = radar_scale.panels(
        [a_run("LLaMA-3+ViT MoSLoRA (orthogonal)", LORA), a_run("LLaMA-3+ViT LoRA", MIXED)], DIGITS
    )
    figure = radar.draw_for_page(shown[0], shown)
    pixels = 328 / figure.get_figwidth() / 72  # of a page 360 wide, for each point of a letter
    axes = figure.axes[0]
    letters = [text for label in labels(axes) for text in label.findobj(Text)]
    names = [text for text in letters if text.get_text() in ABILITIES]
    assert len(names) == 6
    assert min(text.get_fontsize() for text in names) * pixels > 13
    numbers = [text for text in letters if text.get_text().strip("\u2007").replace(".", "").isdigit()]
    assert len(numbers) == 12
    assert min(text.get_fontsize() for text in numbers) * pixels > 11
    assert min(tick.get_fontsize() for tick in axes.get_yticklabels()) * pixels > 9
    figure.canvas.draw()
    whole = figure.bbox
    for text in [*labels(axes), *figure.legends[0].get_texts()]:
        box = text.get_window_extent()
        assert whole.x0 <= box.x0, text
        assert box.x1 <= whole.x1, text
    plt.close("all")


def said(axes: Any) -> list[list[str]]:
    """The texts at each axis."""
    return [[text.get_text().strip("\u2007") for text in label.findobj(Text)] for label in labels(axes)]


def test_the_axes_say_whose_each_number_is() -> None:
    two = radar_scale.panels([a_run("LoRA", LORA), a_run("MoSLoRA", MIXED)], DIGITS)
    axes = radar.draw_for_page(two[0], two).axes[0]
    assert said(axes)[:2] == [["AR", "●", "60.0", "■", "75.0"], ["CP", "●", "70.0", "■", "35.0"]]
    colours = [text.get_color() for text in labels(axes)[0].findobj(Text)]
    assert (colours[1], colours[3]) == (axes.lines[0].get_color(), axes.lines[1].get_color())
    assert "each model's score" in radar_scale.caption(two, absolute=False)
    four = radar_scale.panels([a_run(f"model {number}", (*LORA[:5], 10.0 * number)) for number in range(4)], DIGITS)
    axes = radar.draw_for_page(four[0], four).axes[0]
    assert said(axes)[5] == ["RR", "◆", "30.0"]
    assert said(axes)[0] == ["AR", "●", "■", "▲", "60.0"]  # all have it; three signs are enough
    assert "after the sign of the model that has it" in radar_scale.caption(four, absolute=True)
    plt.close("all")


def test_with_a_low_centre_close_models_are_told_apart() -> None:
    base, one, two = (15, 12, 18, 30, 8, 20), (62, 55, 60, 70, 50, 66), (63, 57, 59, 72, 53, 65)
    runs = [a_run(name, values) for name, values in (("base", base), ("one", one), ("two", two))]
    shown = radar_scale.panels(runs, DIGITS)
    assert radar_scale.lower_end(shown) == 0.0
    assert radar_scale.steepness(shown) == 4
    axes = radar.draw_for_page(shown[0], shown).axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert drawn["one"][0] == pytest.approx((62 / 63) ** 4)
    assert drawn["two"][0] == 1.0
    rings = dict(zip((tick.get_text() for tick in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    assert rings["0.9"] == pytest.approx(0.9**4)
    assert "The radius grows with the 4th power" in radar_scale.caption(shown, absolute=False)
    # Without the weak model, and where the best are far apart, it is a plain scale.
    assert radar_scale.steepness(radar_scale.panels(runs[1:], DIGITS)) == 1
    far = radar_scale.panels([runs[0], runs[1], a_run("far", tuple(value / 2 for value in one))], DIGITS)
    assert radar_scale.steepness(far) == 1
    assert "power" not in radar_scale.caption(far, absolute=False)
    plt.close("all")


@pytest.mark.parametrize("models", [1, 2, 3, 5])
def test_nothing_is_cut_off_and_no_letters_lie_on_others(models: int) -> None:
    """Legend, title and names of the axes, on the page and in the files."""
    shown = radar_scale.panels([a_run(f"model {number}", LORA) for number in range(models)], DIGITS)
    for figure in (radar.draw_for_page(shown[0], shown), radar.draw(shown)):
        figure.canvas.draw()
        polar = [axes for axes in figure.axes if axes.name == "polar"]
        names = [label for axes in polar for label in labels(axes)]
        texts = [*names, *(axes.title for axes in polar), *figure.legends[0].get_texts()]
        boxes = {f"{place} {text}": text.get_window_extent() for place, text in enumerate(texts)}
        boxes |= {f"table {place}": axes.bbox for place, axes in enumerate(figure.axes) if axes not in polar}
        for name, box in boxes.items():
            assert figure.bbox.x0 <= box.x0, name
            assert box.x1 <= figure.bbox.x1, name
            assert figure.bbox.y0 <= box.y0, name
            assert box.y1 <= figure.bbox.y1, name
            assert [other for other in boxes if other != name and box.overlaps(boxes[other])] == [], name
    plt.close("all")
