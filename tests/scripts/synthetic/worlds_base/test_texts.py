"""The base's own texts, solved again by reading them."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import pytest
from synthetic.worlds_base.texts import (
    MARKINGS,
    SO,
    WORDS,
    Marking,
    Text,
    form,
    hop_marked,
    posed,
    posed_anywhere_marked,
    posed_ended,
    posed_marked,
    question_marked,
)

from moslora_xtuner.data.worlds.cases import COLOURS, HOLDERS, ORDERS, PLACES, STUFFS

OPTION = re.compile(r" (?:([ABCD])\.|(Answer|Option|Solution|Ending)(\d):) (\w+)")


def facts(told: str) -> dict[str, str]:
    """First words and last words of the sentences."""
    return {words[0]: words[-1] for words in (sentence.split() for sentence in told.split(".")) if words}


def marks(listed: str) -> dict[str, str]:
    """Options and their letters or numbers."""
    return {word: letter or number for letter, _, number, word in OPTION.findall(listed)}


@pytest.mark.parametrize("make", [posed, posed_anywhere_marked, posed_marked, posed_ended])
def test_posed_marks_are_of_what_the_first_word_is(make: Callable[[Random], Text]) -> None:
    rng = Random(1)
    for _ in range(50):
        (told, _), *asked = make(rng).pieces
        known = facts(told)
        for (question, read), (mark, learnt) in zip(asked[::3], asked[1::3], strict=True):
            options = marks(question)
            assert sorted(options) == sorted(known.values())
            (key,) = [word for word in re.findall(r"\w+", question) if word in known]
            assert options[known[key]] == mark.strip()
            assert (read, learnt) == (False, True)


def test_hop_marks_likewise() -> None:
    rng = Random(2)
    for _ in range(50):
        (told, _), *asked = hop_marked(rng).pieces
        end = OPTION.search(told)
        assert end is not None
        known, options = facts(told[: end.start()]), marks(told[end.start() :])
        for (question, _), (mark, _) in zip(asked[::3], asked[1::3], strict=True):
            (key,) = [word for word in question.split() if word in known]
            assert options[known[key]] == mark.strip()


def test_the_first_word_stands_before_the_list_or_anywhere() -> None:
    rng = Random(3)
    before = [OPTION.split(text.pieces[1][0])[0].split() for text in (posed_marked(rng) for _ in range(50))]
    assert all(before)
    anywhere = [OPTION.split(posed_anywhere_marked(rng).pieces[1][0])[0].split() for _ in range(50)]
    assert {bool(words) for words in anywhere} == {False, True}


def test_an_ended_list_has_what_ends_a_sets_prompt() -> None:
    rng = Random(4)
    for _ in range(20):
        question = posed_ended(rng).pieces[1][0]
        label, count = Marking(question.split()[-1]), len(marks(question))
        assert "Answer format: " + "/".join(f"{label.label}{n + 1}" for n in range(count)) in question
        assert question.endswith(f"the correct answer is {label.label}")


def test_marks_of_letters_and_labels() -> None:
    assert [by.option(1, "park") for by in MARKINGS] == [
        " B. park", " Answer2: park", " Option2: park", " Solution2: park", " Ending2: park",
    ]  # fmt: skip
    assert [by.lead + by.mark(1) for by in MARKINGS] == [" B", " answer2", " option2", " solution2", " ending2"]


@pytest.mark.parametrize("make", [question_marked, form])
def test_no_text_has_what_is_tuned(make: Callable[[Random], Text]) -> None:
    rng = Random(5)
    tuned = {*COLOURS, *HOLDERS, *(word for row in ORDERS["tuned"] for word in row), "gets", "loses", "falls", "drop"}
    for _ in range(300):
        words = set(re.findall(r"\w+", "".join(piece for piece, _ in make(rng).pieces)))
        assert not words & tuned
    assert not {*PLACES, *STUFFS} & tuned


def test_a_question_ends_with_so_or_with_its_sets_ending() -> None:
    rng = Random(6)
    texts = ["".join(piece for piece, learnt in question_marked(rng).pieces if not learnt) for _ in range(200)]
    assert all(text.endswith(SO) or re.search(rf"({SO}|the correct answer is) \w+$", text) for text in texts)


def test_words_are_known_once() -> None:
    assert len(set(WORDS)) == len(WORDS)
