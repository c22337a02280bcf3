"""Small pictures of coloured shapes, as the base64 text of a TSV's `image` column."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIZE = (32, 24)
COLOURS = {
    "red": ("红色", (220, 30, 30)),
    "green": ("绿色", (20, 150, 40)),
    "blue": ("蓝色", (40, 70, 220)),
    "yellow": ("黄色", (240, 210, 20)),
    "purple": ("紫色", (140, 40, 170)),
    "orange": ("橙色", (250, 140, 20)),
    "black": ("黑色", (10, 10, 10)),
    "white": ("白色", (255, 255, 255)),
}
SHAPES = {
    "circle": "圆形",
    "square": "正方形",
    "triangle": "三角形",
    "diamond": "菱形",
    "hexagon": "六边形",
}
SIDES = {"triangle": 3, "diamond": 4, "hexagon": 6}
BITS = 16
"""Of the bar code."""
MOST = 4
"""Shapes in a picture, at most."""


@dataclass(frozen=True)
class Scene:
    """One to four shapes of one colour in a row; `number` is drawn as a bar code, so that no two pictures agree."""

    number: int
    colour: str
    shape: str
    count: int


def draw(scene: Scene) -> Image.Image:
    """The picture, 32 x 24 pixels, RGB."""
    image = Image.new("RGB", SIZE, (150, 150, 150))
    pen = ImageDraw.Draw(image)
    fill = COLOURS[scene.colour][1]
    for place in range(scene.count):
        x, y = 4 + 8 * place, 10
        if scene.shape == "circle":
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill)
        elif scene.shape == "square":
            pen.rectangle((x - 3, y - 3, x + 3, y + 3), fill)
        else:
            pen.regular_polygon((x, y, 3), SIDES[scene.shape], rotation=45 * (scene.shape == "diamond"), fill=fill)
    for bit in range(BITS):
        if scene.number >> bit & 1:
            pen.rectangle((2 * bit, 20, 2 * bit + 1, 23), (255, 255, 255))
    return image


def encode(scene: Scene, form: str = "JPEG") -> str:
    """The picture as base64 text; as PNG some 200 characters, as JPEG 1,100."""
    stream = io.BytesIO()
    draw(scene).save(stream, form, quality=90)
    return base64.b64encode(stream.getvalue()).decode()


class Gallery:
    """The pictures of one benchmark. Its seed and name alone decide them."""

    def __init__(self, seed: int, part: str, form: str = "JPEG") -> None:
        self.rng = np.random.default_rng([seed, *part.encode()])
        self.form = form
        self.given = 0
        self.scene = Scene(0, "red", "circle", 1)
        self.holder = 0

    def next(self, index: int) -> tuple[Scene, str]:
        """What the question with this index is about, and the text of its `image` cell.

        Every third question is about the picture of the one before, and its cell holds that one's index.
        """
        self.given += 1
        if self.given % 3 == 0:
            return self.scene, str(self.holder)
        return self.new(index)

    def new(self, index: int) -> tuple[Scene, str]:
        """A picture of its own, and its base64 text."""
        colour, shape = (str(self.rng.choice(list(names))) for names in (COLOURS, SHAPES))
        self.scene = Scene(index % (1 << BITS), colour, shape, int(self.rng.integers(1, MOST + 1)))
        self.holder = index
        return self.scene, encode(self.scene, self.form)
