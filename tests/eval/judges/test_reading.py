"""A judge's words and what they say, each worked out by hand; VLMEvalKit's own reader beside it."""

from __future__ import annotations

from typing import Any

import pytest

from moslora_xtuner.eval.judges import reading
from moslora_xtuner.eval.judges.base import Reply
from moslora_xtuner.eval.judges.reading import Read, Unread

GRADES: dict[str, float | None] = {
    "0.5": 0.5, "1.0": 1.0, "0": 0.0, "1": 1.0, " 0.7\n": 0.7, "1e-1": 0.1, ".5": 0.5, "0.50": 0.5,
    "0.5 because one of two is there": 0.5,
    "0.5 - one of two": 0.5, "1 - all": 1.0, "0.5.": 0.5, "**0.5**": 0.5, "`0.5`": 0.5, "Correctness: 0.5": 0.5,
    "The correctness score is 0.5.": 0.5, "0.5 | ": 0.5, "0,5": 0.5, "1 (totally right)": 1.0, "0.0 (wrong)": 0.0,
    "\uff10.\uff15": 0.5, "0.8/1.0": 0.8, "Score = 1.0": 1.0, "0.9\n\nThe prediction 3 of 4": 0.9, "1, since all": 1.0,
    # Nothing that is plain.
    "": None, "nan": None, "NaN": None, "inf": None, "1.2": None, "-0.5": None, "5": None, "8/10": None, "50%": None,
    "0.5 - 0.6": None,
    "1 of the 2 elements": None, "1 element is right, so 0.5": None, "0.5 or 0.6": None, "0.5-0.6": None, "10": None,
    "1.0.0": None, "0.5 to 1": None, "well, well": None, "I can't grade this.": None, "one": None, "0.5 out of 2": None,
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GRADES.items())
def test_a_grade(text: str, expected: float | None) -> None:
    found = reading.grade(Reply(text))
    assert (float(found.text) if isinstance(found, Read) else None) == expected
    try:
        stock = float(text)  # VLMEvalKit's reader
    except ValueError:
        stock = float("nan")
    if isinstance(found, Read):
        assert found.ours == (stock != expected)


@pytest.mark.parametrize("text", ["0", "0.", "1.", "Score: 0", "1"])
def test_a_grade_that_was_cut_off_is_none(text: str) -> None:
    """VLMEvalKit takes the "0." of a 0.9 for 0."""
    assert isinstance(reading.grade(Reply(text)), Read)
    found = reading.grade(Reply(text, cut=True))
    assert isinstance(found, Unread)
    assert "cut off" in found.reason
    for whole in ("0.5", "0.5 because", "1.0"):
        assert isinstance(reading.grade(Reply(whole, cut=True)), Read)


def row(kind: str, answer: str = "", prediction: str = "mine") -> dict[str, Any]:
    return {"question_type": "free_form", "answer_type": kind, "answer": answer, "prediction": prediction}


NUMBERS = [
    # kind, reply, what VLMEvalKit is told (None: no verdict), whether it would have read another
    ("integer", "14", "14", False),
    ("integer", "14.0", "14", True),
    ("integer", "14.", "14", True),
    ("integer", "1,000", "1000", True),
    ("integer", "-1,234,567", "-1234567", True),
    ("integer", "**14**", "14", True),
    ("integer", "Extracted answer: 14", "14", True),
    ("integer", "The answer is 14.", "14", True),
    ("integer", "14 cm", "14", True),
    ("integer", "$14", "14", True),
    ("integer", "45%", "45", True),
    ("integer", "1e3", "1000", True),
    ("integer", "14.5", "14.5", False),
    ("integer", "1/2", "1/2", False),
    ("integer", "12,34", "12,34", False),
    ("integer", "two of them, 3 or 4", "two of them, 3 or 4", False),
    ("integer", "left", "left", False),
    ("integer", "nan", None, False),
    ("integer", "-inf", None, False),
    ("integer", "", None, False),
    ("integer", "I cannot extract it, sorry. I'm unable to answer", None, False),
    ("integer", "Failed to obtain answer via API.", None, False),
    ("float", "1.45", "1.45", False),
    ("float", "$1.45", "1.45", True),
    ("float", "1,000.5", "1000.5", True),
    ("float", "14", "14", False),
    ("float", "nan", None, False),
    ("float", "1e999", None, False),
    ("text", "Blue ", "Blue", False),
    ("text", "nan", "nan", False),
    ("list", "[1, 2]", "[1, 2]", False),
    ("text", "a\x00b\ud800", "a\ufffdb\ufffd", False),
]


@pytest.mark.parametrize(("kind", "text", "told", "ours"), NUMBERS)
def test_an_extracted_answer(kind: str, text: str, told: str | None, ours: bool) -> None:
    found = reading.extracted(Reply(text), row(kind))
    assert (found.text if isinstance(found, Read) else None) == told
    assert getattr(found, "ours", False) == ours


def test_a_refusal_that_is_the_models_own_is_a_verdict() -> None:
    said = "I cannot determine the answer"
    assert reading.extracted(Reply(said), row("integer", prediction=f"{said}.")) == Read(said)
    assert isinstance(reading.extracted(Reply(said), row("integer")), Unread)


NINE_OPTIONS = dict(zip("ABCDEFGHI", ["cat", "dog", "cow", "pig", "hen", "fox", "owl", "bat", "bee"], strict=True))
OPTIONS = [
    ("B", "B"), ("(B)", "B"), ("Option B.", "B"), ("b", "B"), ("B\n\nThe answer speaks of a dog that runs", "B"),
    ("dog", "B"), ("Z", "Z"), ("z", "Z"), ("I", "I"), ("I can't see it. B", "B"),
    ("I can't", None), ("I cannot determine that", None), ("Sorry, I can't help with images of people yet.", None),
    ("", None), ("well, well", None), ("A or B", None), ("nan", None), ("Cannot determine the answer", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "letter"), OPTIONS)
def test_an_option(text: str, letter: str | None) -> None:
    found = reading.option(Reply(text), NINE_OPTIONS)
    assert (found.text if isinstance(found, Read) else None) == letter


def test_a_real_option_z_is_one() -> None:
    assert reading.option(Reply("Z"), {"A": "a cat", "Z": "a zebra"}) == Read("Z")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", "Yes"), ("no.", "No"), ("Unknown", "Unknown"), ("unknown.", "Unknown"), ("No, I can't see one", "No"),
        ("I can't tell", None), ("", None), ("maybe", None), ("yes or no", None), ("Sorry, I cannot answer.", None),
    ],
)  # fmt: skip
def test_yes_or_no(text: str, said: str | None) -> None:
    found = reading.yes_no(Reply(text))
    assert (found.text if isinstance(found, Read) else None) == said
