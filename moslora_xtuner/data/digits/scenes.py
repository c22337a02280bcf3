"""Scenes: one to four handwritten digits on paper, drawn deterministically from a generator.

The digits are scikit-learn's `load_digits` (1,797 images of 8 x 8 pixels, UCI ML repository, Alpaydin and
Kaynak 1998). Train and test scenes are made of disjoint digits; that split is fixed and does not depend on
any seed a user gives, because the base model in the package has seen the train digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

CANVAS = 96
"""Longer side of a scene in pixels."""

INKS = ("red", "green", "blue", "purple")
PAPERS = ("light", "dark")
LAYOUTS = ("one", "row", "column", "three", "four")

_INK_RGB = {
    ("red", "light"): (200, 30, 30),
    ("green", "light"): (20, 130, 40),
    ("blue", "light"): (30, 60, 200),
    ("purple", "light"): (140, 30, 160),
    ("red", "dark"): (255, 100, 100),
    ("green", "dark"): (100, 230, 110),
    ("blue", "dark"): (110, 150, 255),
    ("purple", "dark"): (225, 130, 255),
}
# Centre of each digit, as a share of the canvas (x, y), in the order left to right, top to bottom.
_CENTRES = {
    "one": ((0.5, 0.5),),
    "row": ((0.25, 0.5), (0.75, 0.5)),
    "column": ((0.5, 0.25), (0.5, 0.75)),
    "three": ((1 / 6, 0.5), (0.5, 0.5), (5 / 6, 0.5)),
    "four": ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)),
}
# Edge of a digit in pixels: (small, large). Three in a row have to share the width.
_SIZES = {"one": (36, 60), "row": (30, 42), "column": (30, 42), "three": (24, 30), "four": (30, 42)}
# The short side of a wide or tall scene in pixels: its digits with their jitter and a margin.
_STRIPS = {"one": 72, "row": 56, "column": 56, "three": 42}
_TEST_DIGITS = 400
_SPLIT_SEED = 20240616


@dataclass(frozen=True)
class Glyph:
    """One handwritten digit in a scene: its place in `load_digits`, its value, its centre in pixels."""

    source: int
    value: int
    centre: tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """Everything that is true about a picture; `draw` turns it into pixels."""

    layout: str
    glyphs: tuple[Glyph, ...]
    size: int
    large: bool
    ink: str
    paper: str
    paper_rgb: tuple[int, int, int]

    @property
    def frame(self) -> tuple[int, int]:
        """Width and height of the picture: one scene of three is as wide or tall as its layout asks.

        Decided by the digits themselves, so that it costs no draw of the generator.
        """
        strip = _STRIPS.get(self.layout)
        kind = sum(glyph.source for glyph in self.glyphs) % 6
        if strip is None or kind > 1:
            return CANVAS, CANVAS
        tall = kind == 1 if self.layout == "one" else self.layout == "column"
        return (strip, CANVAS) if tall else (CANVAS, strip)

    @property
    def values(self) -> tuple[int, ...]:
        """The digits, left to right, then top to bottom."""
        return tuple(glyph.value for glyph in self.glyphs)


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.asarray(bunch.images, dtype=np.float64) / 16.0, np.asarray(bunch.target, dtype=np.int64)


@cache
def split_sources(split: str) -> tuple[tuple[int, ...], ...]:
    """The places in `load_digits` of each value 0 to 9 in `train` or `test`; the two are disjoint."""
    images, target = _digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(images))
    chosen = order[:_TEST_DIGITS] if split == "test" else order[_TEST_DIGITS:]
    return tuple(tuple(int(i) for i in chosen if target[i] == value) for value in range(10))


def sample_scene(
    rng: np.random.Generator, split: str, layout: str | None = None, values: tuple[int, ...] | None = None
) -> Scene:
    """Draw the facts of one scene.

    Args:
        rng: the only source of randomness.
        split: `train` or `test`, which digits may be used.
        layout: one of `LAYOUTS`; drawn when not given.
        values: the digits wanted, one for each place of the layout; drawn when not given.
    """
    if layout is None:
        layout = str(rng.choice(LAYOUTS, p=(0.3, 0.22, 0.22, 0.13, 0.13)))
    centres = _CENTRES[layout]
    if values is None:
        values = tuple(int(v) for v in rng.integers(0, 10, size=len(centres)))
    large = bool(rng.integers(2))
    size = _SIZES[layout][int(large)]
    paper = PAPERS[int(rng.integers(2))]
    low, high = (215, 256) if paper == "light" else (10, 50)
    paper_rgb = (int(rng.integers(low, high)), int(rng.integers(low, high)), int(rng.integers(low, high)))
    glyphs = []
    for value, (x, y) in zip(values, centres, strict=True):
        sources = split_sources(split)[value]
        # Jitter leaves each digit inside its own cell.
        jitter = rng.integers(-2, 3, size=2)
        centre = (round(x * CANVAS) + int(jitter[0]), round(y * CANVAS) + int(jitter[1]))
        glyphs.append(Glyph(sources[int(rng.integers(len(sources)))], value, centre))
    return Scene(layout, tuple(glyphs), size, large, str(rng.choice(INKS)), paper, paper_rgb)


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB picture, `CANVAS` pixels on its longer side; wide and tall ones are the middle of the canvas.

    Each pixel is `paper (1 - m) + ink m`, where m in [0, 1] is the digit's grey value, enlarged bicubically.
    """
    images, _ = _digits()
    mask = np.zeros((CANVAS, CANVAS))
    for glyph in scene.glyphs:
        grey = Image.fromarray(np.round(images[glyph.source] * 255).astype(np.uint8))
        enlarged = np.asarray(grey.resize((scene.size, scene.size), Image.Resampling.BICUBIC)) / 255.0
        left = min(max(glyph.centre[0] - scene.size // 2, 0), CANVAS - scene.size)
        top = min(max(glyph.centre[1] - scene.size // 2, 0), CANVAS - scene.size)
        window = mask[top : top + scene.size, left : left + scene.size]
        np.maximum(window, enlarged, out=window)
    ink = np.array(_INK_RGB[scene.ink, scene.paper], dtype=np.float64)
    paper = np.array(scene.paper_rgb, dtype=np.float64)
    pixels = paper + mask[:, :, None] * (ink - paper)
    width, height = scene.frame
    left, top = (CANVAS - width) // 2, (CANVAS - height) // 2
    pixels = pixels[top : top + height, left : left + width]
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))
