"""The wording that LLaVA-1.5's instruction mix puts around a question.

Training data and evaluation prompts use the same functions, so that they cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

IMAGE_TOKEN = "<image>"
"""Stands in the human's words where a picture does; `\\<image>` there is the word itself."""
_MARK = re.compile(r"(?<!\\)<image>")

LETTER_INSTRUCTION = {
    "en": "Answer with the option's letter from the given choices directly.",
    "cn": "请直接回答选项字母。",
}
SHORT_INSTRUCTION = {
    "en": "Answer the question using a single word or phrase.",
    "cn": "请用一个词或短语回答问题。",
}
YES_NO_INSTRUCTION = "Please answer yes or no."


def around_marks(words: str) -> list[str]:
    """What stands before, between and after the pictures' marks, as it is to be read."""
    return [piece.replace(f"\\{IMAGE_TOKEN}", IMAGE_TOKEN) for piece in _MARK.split(words)]


def marks(words: str) -> int:
    """How many pictures stand in the words."""
    return len(_MARK.findall(words))


def without_last_mark(words: str) -> str:
    """The words without the last picture's mark, and without the line break behind it; there must be one."""
    *_, last = _MARK.finditer(words)
    return words[: last.start()] + words[last.end() :].removeprefix("\n")


def as_word(words: str) -> str:
    """The words with every mark in them as the word itself."""
    return _MARK.sub(lambda found: f"\\{found[0]}", words)


def lettered(options: Sequence[str]) -> dict[str, str]:
    """Options by their letters, A first."""
    return {chr(ord("A") + place): option for place, option in enumerate(options)}


def multiple_choice(
    question: str, options: Mapping[str, str], language: str | None = "en", hint: str | None = None
) -> str:
    """A question with lettered options, to be answered with a letter.

    Args:
        question: the question's text, one or more lines.
        options: letter to text, in the order to show.
        language: `en` or `cn`, the language of the closing instruction; None: there is none.
        hint: context that stands before the question (ScienceQA, MMBench).
    """
    lines = [hint] if hint else []
    lines.append(question)
    lines += [f"{letter}. {option}" for letter, option in options.items()]
    if language is not None:
        lines.append(LETTER_INSTRUCTION[language])
    return "\n".join(lines)


def short_answer(question: str, language: str = "en") -> str:
    """An open question, to be answered with a word or phrase."""
    return f"{question}\n{SHORT_INSTRUCTION[language]}"


def yes_no(question: str) -> str:
    """A yes/no question as MME's table holds it: the instruction is part of the question."""
    return f"{question} {YES_NO_INSTRUCTION}"
