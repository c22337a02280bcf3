"""The question texts that a model is asked: LLaVA-1.5's forms, one for each kind of benchmark."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from typing import Any

from .benchmarks import Benchmark

LETTER_EN = "Answer with the option's letter from the given choices directly."
LETTER_CN = "请直接回答选项字母。"
SHORT = "Answer the question using a single word or phrase."


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
    answers: question and the request for a word; open questions: the question alone.
    Source: the evaluation prompts of LLaVA-1.5 (docs/Evaluation.md there).
    """
    question = str(row["question"])
    if benchmark.kind == "mcq":
        if not is_blank(row.get("hint")):
            question = f"{row['hint']}\n{question}"
        lines = [f"{letter}. {text}" for letter, text in options(row).items()]
        ask = LETTER_CN if benchmark.language == "cn" else LETTER_EN
        return "\n".join([question, *lines, ask])
    if benchmark.kind in ("yesno", "vqa"):
        return f"{question}\n{SHORT}"
    return question
