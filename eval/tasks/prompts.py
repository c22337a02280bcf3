"""The question texts that a model is asked: LLaVA-1.5's forms, one for each kind of benchmark."""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from moslora_xtuner.data.instructions import multiple_choice, short_answer
from moslora_xtuner.data.tokens.chat_templates import get_template

from .registry import Benchmark

ASKED = get_template("alpaca").asking
"""The template of questions of the kind `label`."""


@dataclass(frozen=True)
class Question:
    """One prompt text (no image token, no template), its image file's bytes, the longest answer, beams to follow.

    Of the kind `label` the text is the whole prompt: the protocol has its own words around the question.
    """

    text: str
    image: bytes | None
    max_new_tokens: int = 16
    beams: int = 1

    @cached_property
    def image_key(self) -> str:
        """The sha256 of the image bytes ("" without an image)."""
        return "" if self.image is None else hashlib.sha256(self.image).hexdigest()


def is_blank(value: Any) -> bool:
    """Tell whether a table cell is empty (None, NaN or an empty string)."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def options(row: Mapping[str, Any]) -> dict[str, str]:
    """The answer options of a row, letter to text, in the order of the letters."""
    letters = (letter for letter in string.ascii_uppercase if letter in row)
    return {letter: str(row[letter]) for letter in letters if not is_blank(row[letter])}


def build(benchmark: Benchmark, row: Mapping[str, Any]) -> str:
    """The text of one question, without the image token and without the chat template.

    Multiple choice: (hint,) question, one option a line, and the request for a letter; yes/no and short
    answers: question and the request for a word; open questions: the question alone. A table of one's own has no
    request unless it was asked for. Labels: in the Alpaca text of the authors' evaluation.
    Source: the evaluation prompts of LLaVA-1.5 (docs/Evaluation.md there); wutaiqiang/MoSLoRA, commonsense_evaluate.py.
    """
    question = str(row["question"])
    if benchmark.kind == "label":
        return ASKED.instruction.format(input=question)
    if benchmark.kind == "mcq":
        hint = None if is_blank(row.get("hint")) else str(row["hint"])
        language = benchmark.language if benchmark.instruction else None
        return multiple_choice(question, options(row), language, hint)
    if benchmark.kind in ("yesno", "vqa") and benchmark.instruction:
        return short_answer(question)
    return question
