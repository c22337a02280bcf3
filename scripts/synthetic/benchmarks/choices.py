"""Multiple choice: questions in English and Chinese, with texts that a TSV, pandas or xlsx may spoil."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

import numpy as np

from .names import READ_AS_NOTHING
from .pictures import COLOURS, SHAPES, Scene

LANGUAGES = ("en", "cn")
Text = tuple[str, str]
"""The same in English and in Chinese."""


@dataclass(frozen=True)
class Choice:
    """A question, its options and the place of the right one."""

    question: Text
    options: tuple[Text, ...]
    right: int
    hint: Text | None = None

    def rotated(self, turn: int) -> Choice:
        """The options moved `turn` places to the front, as in MMBench's circular evaluation."""
        right = (self.right - turn) % len(self.options)
        return Choice(self.question, self.options[turn:] + self.options[:turn], right, self.hint)

    def cells(self, language: str, columns: str) -> dict[str, str]:
        """Question and options by column; a column without an option is empty."""
        tag = LANGUAGES.index(language)
        cells = {"question": self.question[tag]}
        for place, letter in enumerate(columns):
            cells[letter] = self.options[place][tag] if place < len(self.options) else ""
        return cells

    @property
    def answer(self) -> str:
        """The letter of the right option."""
        return string.ascii_uppercase[self.right]

    def said(self) -> dict[str, Any]:
        """A right and a wrong answer; the wrong one is an option that is still there when pandas has read the table."""
        seen = [place for place, option in enumerate(self.options) if option[0] not in READ_AS_NOTHING]
        wrong = next(place for place in seen if place != self.right)
        return {"right": self.answer, "wrong": string.ascii_uppercase[wrong]}


def _same(*texts: str) -> tuple[Text, ...]:
    return tuple((text, text) for text in texts)


TABLE = "\n\tname\tnumber\n\tapple\t3\n\tpear\t5"
SPOILED = (
    Choice(("Which number is the smallest?", "哪个数最小？"), _same("3", "0.5", "12", "7"), 1),
    Choice(
        ("Which word names a colour?", "哪个词是颜色？"),
        (("None", "None"), ("red", "红色"), ("seven", "七"), ("NA", "NA")),
        1,
        ("The other words name none.", "其他的词不是。"),
    ),
    Choice(
        ('Which sign says "Stop"?', "哪个牌子写着“停”？"),
        (("'Go'", "'走'"), ('Say ""hi"", they say', '说""你好""'), ('"Stop"', '"停"')),
        2,
    ),
    Choice(
        (f"What does the table say?{TABLE}", f"表里写着什么？{TABLE}"),
        _same("apple\t3", "apple\t5", "pear\n3", "pear, 7"),
        0,
        ('Two lines:\n"the first", the second.', "两行：\n“第一行”，第二行。"),
    ),
    Choice(("Which formula gives four?", "哪个算式等于四？"), _same("=1+1", "@4", "-4", "=2+2"), 3),
)
"""Numbers; words that mean a missing value; quotes; tabs and newlines; what a spreadsheet takes for a formula."""

ALPHABET = Choice(
    ("Which number follows sixteen?", "十六后面是哪个数？"), _same(*map(str, range(1, 27))), 16
)  # fmt: skip
"""26 options. The right one is Q: Z is also VLMEvalKit's word for an answer that it cannot read."""


def about(scene: Scene, kind: int, options: int, rng: np.random.Generator, hint: Text | None = None) -> Choice:
    """A question on the colour (kind 0), the shape (1) or the number (2) of a scene's shapes, options in any order."""
    if kind == 0:
        question, right = ("What colour are the shapes?", "这些图形是什么颜色？"), scene.colour
        texts = {name: (name, chinese) for name, (chinese, _) in COLOURS.items()}
    elif kind == 1:
        question, right = ("What shape is shown?", "图中是什么形状？"), scene.shape
        texts = {name: (name, chinese) for name, chinese in SHAPES.items()}
    else:
        question, right = ("How many shapes are there?", "图中有几个图形？"), str(scene.count)
        texts = {str(count): (str(count), str(count)) for count in range(1, 9)}
    others = [name for name in texts if name != right]
    drawn = [right, *(others[place] for place in rng.permutation(len(others))[: options - 1])]
    order = [drawn[place] for place in rng.permutation(len(drawn))]
    return Choice(question, tuple(texts[name] for name in order), order.index(right), hint)
