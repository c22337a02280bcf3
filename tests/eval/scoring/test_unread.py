"""Answers that say nothing, by our count; beside each what VLMEvalKit makes of it, which decides the score."""

from __future__ import annotations

import pytest

from moslora_xtuner.eval.scoring import unread

FOUR = {"A": "a cat", "B": "a dog", "C": "a cow", "D": "a pig"}
NINE = FOUR | dict(zip("EFGHI", ["hen", "fox", "owl", "bat", "bee"], strict=True))
CHOICES = [
    # options, answer, unread by our count, VLMEvalKit's letter (False: none)
    (FOUR, "B", False, "B"),
    (FOUR, "A.", False, "A"),
    (FOUR, "It is a dog", False, "B"),
    (FOUR, "", True, False),
    (FOUR, "hm", True, False),
    (FOUR, "A or B", True, False),
    (FOUR, "Z", True, "Z"),
    (FOUR, "Sorry, I can't help with images of people yet.", True, "Z"),
    (FOUR, "Cannot determine the answer", True, "Z"),
    (FOUR, "I can't see A", True, "A"),
    (NINE, "I can't", True, "I"),
    (NINE, "I cannot tell", True, "I"),
    (NINE, "I", False, "I"),
    (NINE, "I can't see it well, but B", True, False),
    (FOUR, "I can't see it well, but the answer is B", False, "B"),
    (FOUR | {"Z": "a zebra"}, "Z", False, "Z"),
    (FOUR | {"D": "Cannot be determined"}, "Cannot be determined", False, "D"),
    (FOUR | {"D": "I can't tell"}, "D", False, "D"),
]


@pytest.mark.parametrize(("shown", "answer", "ours", "theirs"), CHOICES)
def test_an_answer_that_names_no_option(shown: dict[str, str], answer: str, ours: bool, theirs: str | bool) -> None:
    from vlmeval.utils import can_infer

    assert unread.choice({"prediction": answer, **shown}) is ours
    assert can_infer(answer, dict(shown)) == theirs


@pytest.mark.parametrize(
    ("answer", "extracted", "ours"),
    [
        ("yes", "Yes", False),
        ("No.", "No", False),
        ("maybe", "Unknown", True),
        ("There is no picture, I cannot answer", "No", True),
        ("No, I can't see one", "No", False),
        ("I cannot tell. Yes", "Yes", False),
    ],
)
def test_neither_yes_nor_no(answer: str, extracted: str, ours: bool) -> None:
    from vlmeval.dataset.utils.yorn import YOrN_Extraction

    assert YOrN_Extraction(answer) == extracted
    assert unread.yes_no({"prediction": answer, "extracted": extracted}) is ours


@pytest.mark.parametrize(
    ("answer", "ours"), [("", True), ("  ", True), ("I can't read it.", True), ("7", False), ("can", False)]
)
def test_no_words(answer: str, ours: bool) -> None:
    assert unread.words(answer) is ours
