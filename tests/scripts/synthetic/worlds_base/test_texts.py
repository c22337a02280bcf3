"""The base's own texts, solved again by reading them."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import pytest
from synthetic.worlds_base.marks import (
    MARKINGS,
    Marking,
    hop_marked,
    posed,
    posed_anywhere_marked,
    posed_ended,
    posed_marked,
)
from synthetic.worlds_base.relations import (
    form,
    orders,
    orders_in_turn,
    question_marked,
    said,
    statement,
    sums,
    truths,
    truths_plain,
)
from synthetic.worlds_base.texts import SO, WORDS, Text

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


def test_the_ends_of_a_row_of_people() -> None:
    rng = Random(7)
    for make in (orders, orders_in_turn):
        for _ in range(30):
            pieces = make(rng).pieces
            for at in range(0, len(pieces), 5):
                told = pieces[at][0]
                pairs = re.findall(r"(\w+) is (\w+) than (\w+)\.", told)
                more = {one: other for one, _, other in pairs}
                first, third = (set(more) - set(more.values())).pop(), (set(more.values()) - set(more)).pop()
                (words,) = [row for row in ORDERS["base"] if row[0] == pairs[0][1]]
                ends = {words[1]: first, words[2]: third}
                for (asked, _), (right, _) in zip(
                    pieces[at + 1 : at + 5 : 2], pieces[at + 2 : at + 5 : 2], strict=True
                ):
                    (end,) = [ends[word] for word in asked.split() if word in ends]
                    assert right == f" {end}"
                assert make is orders or (pairs[0][0], pairs[1][2]) == (first, third)


def test_sums() -> None:
    pieces = sums(Random(8)).pieces
    for (story, _), (right, _) in zip(pieces[::2], pieces[1::2], strict=True):
        had, verb, part = re.search(r"has (\d) \w+\. \w+ (finds|sells) (\d)\.", story).groups()  # type: ignore[union-attr]
        assert int(right) == int(had) + (int(part) if verb == "finds" else -int(part))


@pytest.mark.parametrize("make", [truths, truths_plain])
def test_truths(make: Callable[[Random], Text]) -> None:
    rng, said_true = Random(9), []
    for _ in range(50):
        pieces = make(rng).pieces
        for at in range(0, len(pieces), 11):
            known = facts(pieces[at][0])
            for place in range(at + 1, at + 11, 2):
                (claim, _), (truth, _) = pieces[place : place + 2]
                words = claim.split()
                (value,) = [word for word in words if word in known.values()]
                assert truth == f" {str(known[words[0]] == value).lower()}"
                said_true.append(truth == " true")
    # Nothing is won by always saying the same: 750 throws of a coin.
    assert abs(sum(said_true) / len(said_true) - 0.5) < 0.06


def test_a_statement_has_a_blank_or_is_true_or_not() -> None:
    rng, truths_told = Random(10), 0
    for _ in range(200):
        (asked, _), (right, _) = statement(rng).pieces
        if "is it true that" in asked:
            truths_told += 1
            assert right in (" true", " false")
            assert asked.endswith(f"?{SO}")
        else:
            assert "_" in asked
    assert 60 < truths_told < 140


def test_what_is_said_around_the_mark_is_learnt_too() -> None:
    (prompt, read), (answer, learnt) = said(Random(11)).pieces
    assert (read, learnt) == (False, True)
    assert prompt.endswith("### Response:\n") or prompt.rstrip().endswith("### Response:")
    assert re.fullmatch(r"the correct answer is (true|false|(answer|option|solution|ending)[1-4])", answer.strip())


@pytest.mark.parametrize("make", [question_marked, form, said, statement, orders, sums, truths])
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
