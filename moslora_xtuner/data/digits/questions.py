"""Questions about a scene, over MMBench's six abilities, in English and Chinese.

The abilities are those of Liu et al. 2023 (MMBench): FP-S and FP-C fine-grained perception of one and across
several instances, AR attribute reasoning, CP coarse perception, LR logical reasoning, RR relation reasoning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .scenes import INKS, PAPERS, Scene, sample_scene

LANGUAGES = ("en", "cn")

ABILITY_NAMES = {
    "AR": "attribute_reasoning",
    "CP": "coarse_perception",
    "FP-C": "finegrained_perception (cross-instance)",
    "FP-S": "finegrained_perception (instance-level)",
    "LR": "logic_reasoning",
    "RR": "relation_reasoning",
}
"""VLMEvalKit's `l2-category` values, from which its report makes the short names."""

Phrase = tuple[str, str]
"""The same words in English and Chinese, in the order of `LANGUAGES`."""


@dataclass(frozen=True)
class Question:
    """A question with its right answer and wrong ones; every text is a `Phrase`."""

    category: str
    text: Phrase
    answer: Phrase
    distractors: tuple[Phrase, ...]

    @property
    def ability(self) -> str:
        """MMBench's short name of the ability that the question tests."""
        return ABILITY_OF[self.category]

    def options(self, rng: np.random.Generator) -> tuple[tuple[Phrase, ...], int]:
        """All options in a drawn order, and the place of the right one."""
        choices = (self.answer, *self.distractors)
        order = rng.permutation(len(choices))
        return tuple(choices[i] for i in order), int(np.flatnonzero(order == 0)[0])


_COLOUR: dict[str, Phrase] = {
    "red": ("red", "红色"),
    "green": ("green", "绿色"),
    "blue": ("blue", "蓝色"),
    "purple": ("purple", "紫色"),
}
_PAPER: dict[str, Phrase] = {"light": ("light", "浅色"), "dark": ("dark", "深色")}
_PARITY: tuple[Phrase, Phrase] = (("even", "偶数"), ("odd", "奇数"))
_YES_NO: tuple[Phrase, Phrase] = (("yes", "是"), ("no", "否"))
_PLACES: dict[str, tuple[Phrase, ...]] = {
    "row": (("on the left", "左边"), ("on the right", "右边")),
    "column": (("at the top", "上面"), ("at the bottom", "下面")),
}
_DIRECTIONS: dict[str, Phrase] = {
    "left": ("to the left of", "左边"),
    "right": ("to the right of", "右边"),
    "above": ("above", "上面"),
    "below": ("below", "下面"),
}
_DIRECTION_ANSWERS: dict[str, Phrase] = {
    "left": ("left", "左边"),
    "right": ("right", "右边"),
    "above": ("above", "上面"),
    "below": ("below", "下面"),
}
_NEIGHBOURS = {
    "row": ((0, 1, "left"), (1, 0, "right")),
    "column": ((0, 1, "above"), (1, 0, "below")),
    "four": (
        (0, 1, "left"), (1, 0, "right"), (2, 3, "left"), (3, 2, "right"),
        (0, 2, "above"), (2, 0, "below"), (1, 3, "above"), (3, 1, "below"),
    ),
}  # fmt: skip
"""(a, b, d): the digit at place a stands in direction d of the digit at place b."""


def _number(value: int) -> Phrase:
    return str(value), str(value)


def _other_numbers(rng: np.random.Generator, right: int, top: int) -> tuple[Phrase, ...]:
    wrong = [value for value in range(top + 1) if value != right]
    return tuple(_number(int(value)) for value in rng.choice(wrong, size=3, replace=False))


def _digit(scene: Scene, rng: np.random.Generator) -> Question:
    value = scene.values[0]
    text = ("Which digit is in the picture?", "图中是数字几？")
    return Question("digit", text, _number(value), _other_numbers(rng, value, 9))


def _digit_at(scene: Scene, rng: np.random.Generator) -> Question:
    at = int(rng.integers(2))
    place = _PLACES[scene.layout][at]
    text = (f"Which digit is {place[0]}?", f"{place[1]}是数字几？")
    return Question("digit_at_place", text, _number(scene.values[at]), _other_numbers(rng, scene.values[at], 9))


def _same(scene: Scene, rng: np.random.Generator) -> Question:
    yes, no = _YES_NO
    answer, other = (yes, no) if scene.values[0] == scene.values[1] else (no, yes)
    return Question("same", ("Are the two digits the same?", "两个数字相同吗？"), answer, (other,))


def _larger(scene: Scene, rng: np.random.Generator) -> Question:
    names = (("left", "左边"), ("right", "右边")) if scene.layout == "row" else (("top", "上面"), ("bottom", "下面"))
    choices: list[Phrase] = [(f"the {en} one", f"{cn}的") for en, cn in names] + [("they are equal", "一样大")]
    first, second = scene.values
    right = 2 if first == second else int(second > first)
    answer = choices.pop(right)
    return Question("larger", ("Which digit is larger?", "哪个数字更大？"), answer, tuple(choices))


def _colour(scene: Scene, rng: np.random.Generator) -> Question:
    wrong = tuple(_COLOUR[ink] for ink in INKS if ink != scene.ink)
    return Question("colour", ("What colour is the ink?", "墨水是什么颜色？"), _COLOUR[scene.ink], wrong)


def _parity(scene: Scene, rng: np.random.Generator) -> Question:
    odd = scene.values[0] % 2
    text = ("Is the digit even or odd?", "这个数字是偶数还是奇数？")
    return Question("parity", text, _PARITY[odd], (_PARITY[1 - odd],))


def _count(scene: Scene, rng: np.random.Generator) -> Question:
    right = len(scene.glyphs)
    wrong = tuple(_number(n) for n in range(1, 5) if n != right)
    return Question("count", ("How many digits are in the picture?", "图中有几个数字？"), _number(right), wrong)


def _paper(scene: Scene, rng: np.random.Generator) -> Question:
    other = PAPERS[1 - PAPERS.index(scene.paper)]
    text = ("Is the paper light or dark?", "纸是浅色还是深色？")
    return Question("paper", text, _PAPER[scene.paper], (_PAPER[other],))


def _sum(scene: Scene, rng: np.random.Generator) -> Question:
    right = sum(scene.values)
    text = ("What is the sum of the two digits?", "两个数字的和是多少？")
    return Question("sum", text, _number(right), _other_numbers(rng, right, 18))


def _difference(scene: Scene, rng: np.random.Generator) -> Question:
    right = abs(scene.values[0] - scene.values[1])
    text = ("What is the difference of the two digits?", "两个数字的差是多少？")
    return Question("difference", text, _number(right), _other_numbers(rng, right, 9))


def _next(scene: Scene, rng: np.random.Generator) -> Question:
    right = 2 * scene.values[2] - scene.values[1]
    text = ("Which number comes next in the row?", "这一行的下一个数字是几？")
    return Question("next", text, _number(right), _other_numbers(rng, right, 9))


def _beside(scene: Scene, rng: np.random.Generator) -> Question:
    pairs = _NEIGHBOURS[scene.layout]
    subject, anchor, direction = pairs[int(rng.integers(len(pairs)))]
    known, right = scene.values[anchor], scene.values[subject]
    en, cn = _DIRECTIONS[direction]
    text = (f"Which digit is {en} the {known}?", f"{known}的{cn}是数字几？")
    return Question("beside", text, _number(right), _other_numbers(rng, right, 9))


def _where(scene: Scene, rng: np.random.Generator) -> Question:
    pairs = _NEIGHBOURS[scene.layout]
    subject, anchor, direction = pairs[int(rng.integers(len(pairs)))]
    one, other = scene.values[subject], scene.values[anchor]
    text = (f"Where is the {one}, seen from the {other}?", f"{one}在{other}的哪一边？")
    wrong = tuple(phrase for name, phrase in _DIRECTION_ANSWERS.items() if name != direction)
    return Question("where", text, _DIRECTION_ANSWERS[direction], wrong)


@dataclass(frozen=True)
class Category:
    """One kind of question: its ability, the layouts it fits, and how it is asked."""

    ability: str
    layouts: tuple[str, ...]
    ask: Callable[[Scene, np.random.Generator], Question]


CATEGORIES: dict[str, Category] = {
    "digit": Category("FP-S", ("one",), _digit),
    "digit_at_place": Category("FP-S", ("row", "column"), _digit_at),
    "same": Category("FP-C", ("row", "column"), _same),
    "larger": Category("FP-C", ("row", "column"), _larger),
    "colour": Category("AR", ("one", "row", "column", "three", "four"), _colour),
    "parity": Category("AR", ("one",), _parity),
    "count": Category("CP", ("one", "row", "column", "three", "four"), _count),
    "paper": Category("CP", ("one", "row", "column", "three", "four"), _paper),
    "sum": Category("LR", ("row", "column"), _sum),
    "difference": Category("LR", ("row", "column"), _difference),
    "next": Category("LR", ("three",), _next),
    "beside": Category("RR", ("row", "column", "four"), _beside),
    "where": Category("RR", ("row", "column", "four"), _where),
}
ABILITY_OF = {name: category.ability for name, category in CATEGORIES.items()}


def fits(name: str, scene: Scene) -> bool:
    """Whether this category's question has exactly one right answer in this scene."""
    if scene.layout not in CATEGORIES[name].layouts:
        return False
    if name == "next":
        a, b, c = scene.values
        return b - a == c - b and b != a and 0 <= 2 * c - b <= 9
    if name in ("beside", "where"):
        return len(set(scene.values)) == len(scene.values)
    return True


def fitting(scene: Scene) -> tuple[str, ...]:
    """The categories that `fits` the scene."""
    return tuple(name for name in CATEGORIES if fits(name, scene))


def scene_for(name: str, rng: np.random.Generator, split: str) -> Scene:
    """A scene that a category's question fits, with its answers about equally frequent."""
    layouts = CATEGORIES[name].layouts
    layout = str(rng.choice(layouts))
    values: tuple[int, ...] | None = None
    if (name == "same" and rng.integers(2)) or (name == "larger" and rng.integers(3) == 0):
        values = (int(rng.integers(10)),) * 2
    elif name == "next":
        step = int(rng.choice((-2, -1, 1, 2)))
        first = int(rng.integers(max(0, -3 * step), min(9, 9 - 3 * step) + 1))
        values = (first, first + step, first + 2 * step)
    elif name in ("beside", "where"):
        values = tuple(int(v) for v in rng.choice(10, size=4 if layout == "four" else 2, replace=False))
    return sample_scene(rng, split, layout, values)


def ask(name: str, scene: Scene, rng: np.random.Generator) -> Question:
    """Ask one category's question about a scene that it fits.

    Raises:
        ValueError: the question has no single answer in this scene.
    """
    if not fits(name, scene):
        raise ValueError(f"question {name!r} does not fit layout {scene.layout!r} with digits {scene.values}")
    return CATEGORIES[name].ask(scene, rng)
