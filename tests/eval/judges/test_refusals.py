"""Words that decline, and words that only look like it."""

from __future__ import annotations

import pytest

from moslora_xtuner.eval.judges.refusals import declines, what_is_left

NOTHING_LEFT = (
    "Sorry, I can't help with images of people yet.",
    "I can\u2019t process this file.",
    "I'm sorry, I cannot assist with that request.",
    "I can't",
    "Cannot determine the answer",
    "I am unable to determine the answer.",
    "As an AI, I cannot see pictures.",
    "It is not possible: I can't tell. I'm unable to say!",
    "\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u56de\u7b54",
)
SAYS_SOMETHING = {
    "I cannot see it clearly, but the answer is B.": "the answer is B",
    "Sorry, it is A": "it is A",
    "B": "B",
    "A can of beans": "A can of beans",
    "The toucan is left of it.": "The toucan is left of it.",
    "candle": "candle",
    "You can see two cats": "You can see two cats",
    "14": "14",
}


@pytest.mark.parametrize("text", NOTHING_LEFT)
def test_a_refusal_leaves_nothing(text: str) -> None:
    assert declines(text)
    assert what_is_left(text) in ("", "It is not possible")


@pytest.mark.parametrize(("text", "left"), SAYS_SOMETHING.items())
def test_what_is_said_beside_it_is_left(text: str, left: str) -> None:
    assert what_is_left(text) == left
