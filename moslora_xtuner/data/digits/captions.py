"""Captions: everything about a scene in one line, in English and Chinese.

They serve stage 1 (the projector learns to say what the picture holds) and the text-only records, where a
caption stands in place of the picture.
"""

from __future__ import annotations

from .questions import Phrase
from .scenes import Scene

REQUEST: Phrase = ("Describe the picture.", "描述这张图片。")

_ARRANGEMENT: dict[str, Phrase] = {
    "one": ("One digit", "一个数字"),
    "row": ("Two digits in a row", "一行两个数字"),
    "column": ("Two digits in a column", "一列两个数字"),
    "three": ("Three digits in a row", "一行三个数字"),
    "four": ("Four digits in a square", "四个数字排成方形"),
}
_INK: dict[str, Phrase] = {
    "red": ("Red ink", "红色墨水"),
    "green": ("Green ink", "绿色墨水"),
    "blue": ("Blue ink", "蓝色墨水"),
    "purple": ("Purple ink", "紫色墨水"),
}
_PAPER: dict[str, Phrase] = {"light": ("light paper", "浅色纸"), "dark": ("dark paper", "深色纸")}


def caption(scene: Scene) -> Phrase:
    """The scene in words, digits left to right, then top to bottom."""
    digits = [str(value) for value in scene.values]
    arrangement, ink, paper = _ARRANGEMENT[scene.layout], _INK[scene.ink], _PAPER[scene.paper]
    english = f"{arrangement[0]}: {', '.join(digits)}. {ink[0]} on {paper[0]}."
    chinese = f"{arrangement[1]}：{'、'.join(digits)}。{ink[1]}，{paper[1]}。"
    return english, chinese


def caption_as_picture(scene: Scene) -> Phrase:
    """The caption worded as the thing that a text-only question is about."""
    english, chinese = caption(scene)
    return f"A picture shows: {english}", f"一张图片：{chinese}"
