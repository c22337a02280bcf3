"""The exercises are right: every letter stands before the word that was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic.digits_base import drills

from moslora_xtuner.data.digits.conversations import Turn

SEEDS = st.integers(0, 2**32 - 1)


def options_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-D])\. (.+)$", text, re.MULTILINE))


@pytest.mark.parametrize("drill", [drills.digit_drill, drills.letter_drill, drills.gap_drill])
@given(seed=SEEDS)
def test_a_drill_asks_for_words_that_are_there(
    drill: Callable[[np.random.Generator, int], list[Turn]], seed: int
) -> None:
    turns = drill(np.random.default_rng(seed), 12)
    options = options_of(turns[0][0])
    assert len(turns) == 12
    assert 2 <= len(options) == len(set(options.values())) <= 4
    for human, letter in turns:
        word, between = re.fullmatch(r"(.*?)((?:<\|eot_id\|>.*)?)", human.rsplit("\n ")[-1], re.DOTALL).groups()  # type: ignore[union-attr]
        assert options[letter] == word.removeprefix(" ")
        assert "".join(drills.BETWEEN).startswith(between)


@given(seed=SEEDS)
def test_sentences_ask_for_letters_and_words_that_belong_together(seed: int) -> None:
    turns = drills.letter_turns(np.random.default_rng(seed), 5)
    options = options_of(turns[0][0])
    for human, answer in turns:
        question = human.splitlines()[0]
        if answer in options and answer not in options.values():
            assert options[answer] in question
        else:
            assert options[re.search(r"[A-D]", question.removeprefix("What")).group()] == answer  # type: ignore[union-attr]


@given(seed=SEEDS)
def test_what_was_told_in_words_is_the_option_of_the_letter(seed: int) -> None:
    _, turns = drills.told_turns(np.random.default_rng(seed), 3)
    for (asked, told), (lettered, letter) in zip(turns[::2], turns[1::2], strict=True):
        assert lettered.startswith(asked)
        assert options_of(lettered)[letter] == told
