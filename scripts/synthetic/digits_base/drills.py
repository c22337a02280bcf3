"""Exercises in reading lettered options, from the densest form to the one that benchmarks use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moslora_xtuner.data.digits.conversations import Turn, question_turn
from moslora_xtuner.data.digits.questions import CATEGORIES, LANGUAGES, ask, fitting, scene_for
from moslora_xtuner.data.digits.scenes import Scene
from moslora_xtuner.data.instructions import lettered, multiple_choice

BETWEEN = ("<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n")
"""What LLaMA-3's template puts between a question and its answer."""


def _drawn_options(rng: np.random.Generator, language: int) -> list[str]:
    name = str(rng.choice(list(CATEGORIES)))
    options, _ = ask(name, scene_for(name, rng, "train"), rng).options(rng)
    return [option[language] for option in options]


def _drill(rng: np.random.Generator, words: list[str], count: int) -> list[Turn]:
    """Lettered options, then one of them and its letter, again and again, with no words between.

    Drawn with replacement, so that a letter cannot be had by leaving out those that were used.
    """
    letters = list(lettered(words))
    text = "".join(f"{letter}. {word}\n" for letter, word in lettered(words).items())
    chosen = rng.integers(len(words), size=count)
    (first, answer), *rest = [(f" {words[i]}", letters[i]) for i in chosen]
    return [(text + first, answer), *rest]


def digit_drill(rng: np.random.Generator, count: int) -> list[Turn]:
    """The drill with digits alone, which are one token each: the first step."""
    values = rng.choice(10, size=int(rng.integers(2, 5)), replace=False)
    return _drill(rng, [str(value) for value in values], count)


def letter_drill(rng: np.random.Generator, count: int) -> list[Turn]:
    """The drill with the options of real questions."""
    return _drill(rng, _drawn_options(rng, int(rng.integers(2))), count)


def gap_drill(rng: np.random.Generator, count: int) -> list[Turn]:
    """The drill with a growing part of the chat template between the word and its letter.

    Across the whole template at once, the same thing is not found in a thousand steps.
    """
    turns = letter_drill(rng, count)
    gaps = rng.integers(len(BETWEEN) + 1, size=count)
    return [(human + "".join(BETWEEN[:gap]), letter) for (human, letter), gap in zip(turns, gaps, strict=True)]


def letter_turns(rng: np.random.Generator, count: int) -> list[Turn]:
    """In sentences: which letter stands before this option, and what stands at this letter."""
    language = int(rng.integers(2))
    words = _drawn_options(rng, language)
    letters = list(lettered(words))
    turns: list[Turn] = []
    for _ in range(count):
        place = int(rng.integers(len(words)))
        if rng.random() < 0.75:
            turns.append((("Which letter is {}?", "{}是哪个字母？")[language].format(words[place]), letters[place]))
        else:
            turns.append((("What is {}?", "{}是什么？")[language].format(letters[place]), words[place]))
    first = multiple_choice(turns[0][0], lettered(words), LANGUAGES[language])
    return [(first, turns[0][1]), *turns[1:]]


def _scene(rng: np.random.Generator, names: Sequence[str] = tuple(CATEGORIES)) -> tuple[int, str, Scene]:
    """A language, one of the categories, and a scene that it fits."""
    language = int(rng.integers(2))
    name = str(rng.choice(names))
    return language, name, scene_for(name, rng, "train")


def short_turns(rng: np.random.Generator, count: int) -> tuple[Scene, list[Turn]]:
    """Open questions about one scene without any instruction, drawn from those that fit it."""
    language, _, scene = _scene(rng)
    questions = [ask(str(rng.choice(fitting(scene))), scene, rng) for _ in range(count)]
    return scene, [(question.text[language], question.answer[language]) for question in questions]


def told_turns(rng: np.random.Generator, count: int) -> tuple[Scene, list[Turn]]:
    """Each question twice: open, and then with options, when the answer already stands in words above."""
    language, _, scene = _scene(rng)
    turns = []
    for _ in range(count):
        question = ask(str(rng.choice(fitting(scene))), scene, rng)
        options, right = question.options(rng)
        words = lettered([option[language] for option in options])
        turns.append((question.text[language], question.answer[language]))
        turns.append((multiple_choice(question.text[language], words, LANGUAGES[language]), list(words)[right]))
    return scene, turns


HARD = ("sum", "difference", "next", "larger", "where")
"""Questions whose answer stands nowhere in the caption."""


def hard_turns(rng: np.random.Generator, count: int) -> tuple[Scene, list[Turn]]:
    """Questions that take a thought, mostly with letters; each comes again with other options."""
    language, first, scene = _scene(rng, HARD)
    names = [name for name in fitting(scene) if name in HARD]
    turns = [question_turn(first, scene, rng, language)]
    while len(turns) < count:
        turns.append(question_turn(str(rng.choice(names)), scene, rng, language))
    return scene, turns
