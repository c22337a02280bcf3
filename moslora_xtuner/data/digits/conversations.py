"""Conversations in LLaVA's form: several turns about one scene, in one language each."""

from __future__ import annotations

import numpy as np

from ..instructions import IMAGE_TOKEN, lettered, multiple_choice, short_answer, yes_no
from .captions import REQUEST, caption, caption_as_picture
from .questions import CATEGORIES, LANGUAGES, ask, fitting, scene_for
from .scenes import Scene
from .statements import SUBTASKS, scene_for_subtask, statement_pair

Turn = tuple[str, str]
"""What the human says and what the assistant answers."""


def question_turn(name: str, scene: Scene, rng: np.random.Generator, language: int, letters: float = 0.75) -> Turn:
    """One question, with lettered options in the given share of cases, else open."""
    question = ask(name, scene, rng)
    tag = LANGUAGES[language]
    if rng.random() < letters:
        options, right = question.options(rng)
        text = multiple_choice(question.text[language], lettered([option[language] for option in options]), tag)
        return text, chr(ord("A") + right)
    return short_answer(question.text[language], tag), question.answer[language]


def scene_and_turns(
    rng: np.random.Generator, split: str, turns: int, letters: float = 0.75
) -> tuple[Scene, list[Turn]]:
    """A scene that suits a drawn category, and a conversation about it.

    Categories are drawn evenly, so that rare kinds (the next in the row) are asked as often as common ones.
    """
    language = int(rng.integers(2))
    if language == 0 and rng.random() < 0.2:
        subtask = str(rng.choice(SUBTASKS))
        scene = scene_for_subtask(subtask, rng, split)
        pair = statement_pair(subtask, scene, rng)
        return scene, [(short_answer(yes_no(text)), answer) for text, answer in (pair[i] for i in rng.permutation(2))]
    first = str(rng.choice(list(CATEGORIES)))
    scene = scene_for(first, rng, split)
    others = [name for name in fitting(scene) if name != first]
    names = [first, *(str(name) for name in rng.permutation(others)[: turns - 1])]
    return scene, [question_turn(name, scene, rng, language, letters) for name in names]


def caption_turn(scene: Scene, language: int) -> Turn:
    """Stage 1: describe the picture."""
    return REQUEST[language], caption(scene)[language]


def with_image(turns: list[Turn]) -> list[Turn]:
    """Put the picture before the first human turn."""
    (human, assistant), *rest = turns
    return [(f"{IMAGE_TOKEN}\n{human}", assistant), *rest]


def as_text_only(scene: Scene, turns: list[Turn]) -> list[Turn]:
    """Put the caption in the picture's place."""
    (human, assistant), *rest = turns
    language = 0 if human.isascii() else 1
    return [(f"{caption_as_picture(scene)[language]}\n{human}", assistant), *rest]


def to_llava(turns: list[Turn]) -> list[dict[str, str]]:
    """The `conversations` list of a LLaVA record."""
    return [
        {"from": role, "value": value} for turn in turns for role, value in zip(("human", "gpt"), turn, strict=True)
    ]
