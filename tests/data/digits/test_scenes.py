"""Scenes: real digits, disjoint between train and test, drawn by the formula."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from moslora_xtuner.data.digits.scenes import (
    CANVAS,
    INKS,
    LAYOUTS,
    PAPERS,
    Glyph,
    Scene,
    draw,
    sample_scene,
    split_sources,
)

PLACES = {"one": 1, "row": 2, "column": 2, "three": 3, "four": 4}


def test_train_and_test_digits_are_disjoint_and_whole() -> None:
    train = {source for sources in split_sources("train") for source in sources}
    test = {source for sources in split_sources("test") for source in sources}
    assert not train & test
    assert train | test == set(range(1797))
    assert len(test) == 400


@pytest.mark.parametrize("split", ["train", "test"])
def test_sources_are_sorted_by_what_scikit_learn_says(split: str) -> None:
    target = load_digits().target
    for value, sources in enumerate(split_sources(split)):
        assert len(sources) > 20
        assert {int(target[source]) for source in sources} == {value}


def test_the_same_generator_draws_the_same_picture() -> None:
    for layout in LAYOUTS:
        scenes = [sample_scene(np.random.default_rng(5), "train", layout) for _ in range(2)]
        assert scenes[0] == scenes[1]
        assert draw(scenes[0]).tobytes() == draw(scenes[1]).tobytes()
    assert draw(sample_scene(np.random.default_rng(6), "train")) != draw(scenes[0])


def test_scenes_use_the_digits_of_their_split_and_cover_everything() -> None:
    rng = np.random.default_rng(0)
    target = load_digits().target
    seen: dict[str, set[object]] = {name: set() for name in ("layout", "ink", "paper", "large")}
    for split in ("train", "test"):
        allowed = {source for sources in split_sources(split) for source in sources}
        for _ in range(200):
            scene = sample_scene(rng, split)
            assert {glyph.source for glyph in scene.glyphs} <= allowed
            assert [glyph.value for glyph in scene.glyphs] == [int(target[g.source]) for g in scene.glyphs]
            assert len(scene.values) == PLACES[scene.layout]
            for name, values in seen.items():
                values.add(getattr(scene, name))
    assert seen == {"layout": set(LAYOUTS), "ink": set(INKS), "paper": set(PAPERS), "large": {True, False}}


def test_digits_do_not_overlap_and_lie_in_the_picture() -> None:
    """Where each stands is what the questions are about: left of, above, in reading order."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = sample_scene(rng, "train")
        half = scene.size // 2
        boxes = [(glyph.centre[0] - half, glyph.centre[1] - half) for glyph in scene.glyphs]
        for place, (x, y) in enumerate(boxes):
            for other_x, other_y in boxes[:place]:
                # Three large digits share 96 pixels and may touch by their empty borders.
                slack = 2 if scene.layout == "three" else 0
                assert max(abs(x - other_x), abs(y - other_y)) >= scene.size - 2 - slack
        if scene.layout in ("row", "three"):
            assert sorted(boxes) == boxes
        if scene.layout == "column":
            assert boxes[0][1] < boxes[1][1]
        if scene.layout == "four":
            (ax, ay), (bx, by), (cx, cy), (dx, dy) = boxes
            assert max(ax, cx) < min(bx, dx)
            assert max(ay, by) < min(cy, dy)


def test_pixels_by_hand() -> None:
    """A digit at its own size: nothing is enlarged, each pixel is paper (1 - m) + ink m with m = grey / 16."""
    grey = load_digits().images[3] / 16.0
    scene = Scene("one", (Glyph(3, 3, (50, 40)),), 8, False, "red", "light", (240, 250, 220))
    pixels = np.asarray(draw(scene)).astype(int)
    assert pixels.shape == (CANVAS, CANVAS, 3) == (96, 96, 3)
    assert pixels[0, 0].tolist() == [240, 250, 220]
    row, column = np.unravel_index(int(np.argmax(grey)), grey.shape)
    assert grey[row, column] > 0.9
    for at in [(int(row), int(column)), (2, 3), (5, 4), (0, 0)]:
        m = round(grey[at] * 255) / 255
        wanted = [round(p * (1 - m) + i * m) for p, i in zip((240, 250, 220), (200, 30, 30), strict=True)]
        assert np.abs(pixels[40 - 4 + at[0], 50 - 4 + at[1]] - wanted).max() <= 1
    outside = pixels.copy()
    outside[36:44, 46:54] = (240, 250, 220)
    assert (outside == (240, 250, 220)).all()


def test_an_enlarged_digit_is_pillows_bicubic() -> None:
    grey = Image.fromarray(np.uint8(np.round(load_digits().images[8] * 255 / 16)))
    mask = np.asarray(grey.resize((60, 60), Image.Resampling.BICUBIC)) / 255.0
    scene = Scene("one", (Glyph(8, 8, (48, 48)),), 60, True, "blue", "dark", (20, 30, 40))
    pixels = np.asarray(draw(scene)).astype(float)[18:78, 18:78]
    wanted = (1 - mask[..., None]) * np.array([20, 30, 40]) + mask[..., None] * np.array([110, 150, 255])
    assert np.abs(pixels - wanted).max() <= 0.5 + 1e-9


def test_wide_and_tall_scenes_hold_all_of_their_digits() -> None:
    """One scene of three or so; a digit's whole square lies inside, at both ends of its jitter."""
    rng = np.random.default_rng(0)
    frames = {}
    for _ in range(600):
        scene = sample_scene(rng, "test")
        width, height = scene.frame
        frames[scene.frame] = frames.get(scene.frame, 0) + 1
        left, top = (CANVAS - width) // 2, (CANVAS - height) // 2
        half = scene.size / 2
        for glyph in scene.glyphs:
            x, y = (min(max(place, half), CANVAS - half) for place in glyph.centre)
            assert left <= x - half
            assert x + half <= left + width
            assert top <= y - half
            assert y + half <= top + height
        assert draw(scene).size == (width, height)
    shares = {kind: sum(n for (w, h), n in frames.items() if kind(w, h)) / 600 for kind in (wide, tall, square)}
    assert 0.1 < shares[wide] < 0.25
    assert 0.05 < shares[tall] < 0.2
    assert shares[square] > 0.6


def wide(width: int, height: int) -> bool:
    return width > height


def tall(width: int, height: int) -> bool:
    return width < height


def square(width: int, height: int) -> bool:
    return width == height
