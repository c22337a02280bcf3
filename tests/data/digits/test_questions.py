"""Every answer is worked out again here, from the digits of the scene and the words of the question alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moslora_xtuner.data.digits.questions import CATEGORIES, Question, ask, fits, fitting, scene_for
from moslora_xtuner.data.digits.scenes import Scene, sample_scene

SIDES = {"left": "左边", "right": "右边", "above": "上面", "below": "下面"}
COLOURS = {"red": "红色", "green": "绿色", "blue": "蓝色", "purple": "紫色"}
AT = {"row": [(0, 0), (1, 0)], "column": [(0, 0), (0, 1)], "four": [(0, 0), (1, 0), (0, 1), (1, 1)]}


def side(scene: Scene, of: int, seen_from: int) -> str | None:
    """Where one digit stands, seen from another beside it."""
    (x, y), (ax, ay) = (AT[scene.layout][scene.values.index(value)] for value in (of, seen_from))
    return {(-1, 0): "left", (1, 0): "right", (0, -1): "above", (0, 1): "below"}.get((x - ax, y - ay))


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"\d+", text)]


def answer_en(name: str, scene: Scene, text: str) -> str:
    """The English answer, from the question's own words."""
    v = scene.values
    if name == "digit":
        return str(v[0])
    if name == "digit_at_place":
        return str(v[0 if ("left" in text or "top" in text) else 1])
    if name == "same":
        return "yes" if len(set(v)) == 1 else "no"
    if name == "larger":
        if v[0] == v[1]:
            return "they are equal"
        words = ("left", "right") if scene.layout == "row" else ("top", "bottom")
        return f"the {words[0] if v[0] > v[1] else words[1]} one"
    if name == "colour":
        return scene.ink
    if name == "parity":
        return "odd" if v[0] in (1, 3, 5, 7, 9) else "even"
    if name == "count":
        return str(len(v))
    if name == "paper":
        return scene.paper
    if name == "sum":
        return str(v[0] + v[1])
    if name == "difference":
        return str(max(v) - min(v))
    if name == "next":
        return str(v[2] + (v[1] - v[0]))
    if name == "beside":
        (known,) = numbers(text)
        wanted = next(s for s in SIDES if s in text)
        (found,) = [value for value in v if value != known and side(scene, value, known) == wanted]
        return str(found)
    one, other = numbers(text)
    found = side(scene, one, other)
    assert found is not None
    return found


CHINESE = {
    "yes": "是", "no": "否", "even": "偶数", "odd": "奇数", "light": "浅色", "dark": "深色",
    "they are equal": "一样大", "the left one": "左边的", "the right one": "右边的", "the top one": "上面的",
    "the bottom one": "下面的", **SIDES, **COLOURS,
}  # fmt: skip


def draw_question(name: str, seed: int, split: str = "test") -> tuple[Scene, Question]:
    rng = np.random.default_rng(seed)
    scene = scene_for(name, rng, split)
    return scene, ask(name, scene, rng)


@pytest.mark.parametrize("name", sorted(CATEGORIES))
@given(seed=st.integers(0, 2**32))
def test_answers_are_right_in_both_languages(name: str, seed: int) -> None:
    scene, question = draw_question(name, seed)
    wanted = answer_en(name, scene, question.text[0])
    assert question.answer == (wanted, CHINESE.get(wanted, wanted))
    for english, chinese in question.distractors:
        assert chinese == CHINESE.get(english, english)


@pytest.mark.parametrize("name", sorted(CATEGORIES))
@given(seed=st.integers(0, 2**32))
def test_both_languages_ask_the_same(name: str, seed: int) -> None:
    _, question = draw_question(name, seed)
    english, chinese = question.text
    assert english.isascii()
    assert not chinese.isascii()
    assert numbers(english) == numbers(chinese)
    places = {"on the left": "左边", "on the right": "右边", "at the top": "上面", "at the bottom": "下面"}
    if name in ("digit_at_place", "beside"):
        words = places if name == "digit_at_place" else SIDES
        (word,) = [word for word in words if word in english]
        assert words[word] in chinese


@pytest.mark.parametrize("name", sorted(CATEGORIES))
@given(seed=st.integers(0, 2**32))
def test_options_hold_the_answer_once_and_nothing_twice(name: str, seed: int) -> None:
    _, question = draw_question(name, seed)
    options, right = question.options(np.random.default_rng(seed))
    for language in (0, 1):
        words = [option[language] for option in options]
        assert len(set(words)) == len(words) in (2, 3, 4)
        assert words.count(question.answer[language]) == 1
        assert words[right] == question.answer[language]
    assert set(options) == {question.answer, *question.distractors}


@given(seed=st.integers(0, 2**32))
def test_every_fitting_question_has_one_answer(seed: int) -> None:
    """Any scene, not only those made for the category: the second turns of a conversation are asked so."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, "train")
    for name in fitting(scene):
        question = ask(name, scene, rng)
        assert question.answer[0] == answer_en(name, scene, question.text[0])


def test_every_ability_and_side_of_an_answer_comes() -> None:
    answers: dict[str, set[str]] = {name: set() for name in CATEGORIES}
    for name in CATEGORIES:
        for seed in range(150):
            answers[name].add(draw_question(name, seed)[1].answer[0])
    assert answers["same"] == {"yes", "no"}
    assert answers["parity"] == {"even", "odd"}
    assert answers["paper"] == {"light", "dark"}
    assert answers["colour"] == set(COLOURS)
    assert answers["where"] == set(SIDES)
    assert answers["count"] == {"1", "2", "3", "4"}
    assert len(answers["larger"]) == 5
    assert answers["digit"] == answers["digit_at_place"] == {str(n) for n in range(10)}
    abilities = {category.ability for category in CATEGORIES.values()}
    assert abilities == {"AR", "CP", "FP-C", "FP-S", "LR", "RR"}


def test_a_question_that_does_not_fit_is_refused() -> None:
    scene = sample_scene(np.random.default_rng(0), "train", "row", (4, 4))
    assert not fits("where", scene)
    for name in ("where", "beside", "digit", "next"):
        with pytest.raises(ValueError, match=f"{name}.*does not fit"):
            ask(name, scene, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("values", "fit"),
    [((1, 2, 3), True), ((8, 9, 9), False), ((3, 3, 3), False), ((7, 8, 9), False), ((2, 1, 0), False)],
)
def test_the_next_in_a_row_needs_a_rule_and_a_digit(values: tuple[int, ...], fit: bool) -> None:
    assert fits("next", sample_scene(np.random.default_rng(0), "train", "three", values)) is fit
