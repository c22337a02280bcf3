"""Answers of other kinds than a letter: those that can never be counted right, and those that VLMEvalKit fails at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..registry import Benchmark
from ..tsv import NOTHING, Tsv
from ..values import refusal, value
from .finding import Finding, Weight

Found = tuple[str, str, Weight]
"""Column, words, weight."""
_NEVER = "no answer is ever right"
MOST_DECIMALS = 15
"""More no number of this precision has."""


def check(benchmark: Benchmark, table: Tsv, called: Sequence[str], kit_fixes: bool) -> Iterator[Finding]:
    """Each row's answer, by what the benchmark compares it with. A table without answers has nothing to be said of."""
    given = [answer for answer in table.column("answer") if answer.strip() not in NOTHING]
    numbers = all(_converted(float, answer) is not None for answer in given)
    judge = _rule(benchmark, kit_fixes, numbers)
    if judge is None or not given:
        return
    for place, row in enumerate(table.rows("image")):
        for column, what, weight in judge(row):
            yield Finding(place, called[place], column, what, weight)


def _rule(
    benchmark: Benchmark, kit_fixes: bool, numbers: bool
) -> Callable[[Mapping[str, str]], Iterator[Found]] | None:
    if benchmark.vlmeval_class == "MathVista":
        return lambda row: math_vista(row, kit_fixes, numbers)
    if benchmark.kind == "yesno":
        return yes_no
    if benchmark.kind == "open":
        return graded
    if benchmark.kind == "vqa":
        return of_ten if "TextVQA" in benchmark.dataset else one_of
    return None


def yes_no(row: Mapping[str, str]) -> Iterator[Found]:
    """VLMEvalKit compares with the words Yes and No as they are written (image_yorn.py: evaluate)."""
    answer = row["answer"]
    if answer not in ("Yes", "No"):
        said = f"{_short(answer)} is neither Yes nor No" if answer.strip() else "no answer"
        yield "answer", f"{said}: {_NEVER}", Weight.NEVER_RIGHT


def graded(row: Mapping[str, str]) -> Iterator[Found]:
    """MM-Vet's judge is shown the cell; an empty one it is shown as the text nan, and may well agree with."""
    if not row["answer"].strip():
        yield "answer", "no answer: the judge would be shown 'nan' to compare with", Weight.FAULT


def of_ten(row: Mapping[str, str]) -> Iterator[Found]:
    """TextVQA: each of a list is left out once, a third of a point for each other that agrees (vqa_eval.py)."""
    yield from _listed(row["answer"], least=2)


def one_of(row: Mapping[str, str]) -> Iterator[Found]:
    """ChartQA, OCRVQA, GQA: a text, or a list of them."""
    yield from _listed(row["answer"], least=1)


def _listed(answer: str, least: int) -> Iterator[Found]:
    if not answer.strip():
        yield "answer", f"no answer: {_NEVER}", Weight.NEVER_RIGHT
        return
    found = value(answer)
    if not isinstance(found, list):
        if least > 1:
            how = "no Python list" if answer.lstrip().startswith("[") else "no list of people's answers"
            yield (
                "answer",
                f"{_short(answer)} is {how}: VLMEvalKit takes it for one answer, and {_NEVER}",
                Weight.NEVER_RIGHT,
            )
        elif answer.lstrip().startswith("["):
            yield "answer", f"{_short(answer)} is no Python list: it is compared as it stands", Weight.SAID
    elif not found:
        yield "answer", "an empty list: VLMEvalKit's score of the whole table would be no number", Weight.FAULT
    elif not all(isinstance(item, str) for item in found):
        odd = next(item for item in found if not isinstance(item, str))
        yield "answer", f"the list holds {odd!r}, which is no text: VLMEvalKit fails at it", Weight.FAULT
    elif len(found) < least:
        yield "answer", f"a list of one: it is left out when it is compared, and {_NEVER}", Weight.NEVER_RIGHT


def math_vista(row: Mapping[str, str], kit_fixes: bool, numbers: bool) -> Iterator[Found]:
    """What utils/mathvista.py (post_check, MathVista_acc) compares, by the question's type.

    `numbers`: whether the whole column of answers is, so that pandas has made numbers of it and 14.0 is 14.
    """
    if not isinstance(value(row["skills"]), list) and refusal(row["skills"]) is not SyntaxError:
        yield "skills", f"{_short(row['skills'])} is no list: VLMEvalKit fails at it", Weight.FAULT
    if row["question_type"] == "multi_choice":
        yield from _math_choice(row)
        return
    answer, kind = row["answer"], row["answer_type"]
    if kind in ("integer", "float"):
        yield from _math_number(row, numbers)
    elif kind == "list" and kit_fixes:
        if not isinstance(value(answer), list):
            yield "answer", f"{_short(answer)} is no list (answer_type): {_NEVER}", Weight.NEVER_RIGHT
    else:
        fixed = " (--kit-fixes compares lists)" if kind == "list" else ""
        said = f"the type {kind!r}" if kind.strip() else "no type"
        yield (
            "answer_type",
            f"{said}: VLMEvalKit compares integers and floats alone, {_NEVER}{fixed}",
            Weight.NEVER_RIGHT,
        )


def _math_number(row: Mapping[str, str], numbers: bool) -> Iterator[Found]:
    answer, kind = row["answer"], row["answer_type"]
    reader: Callable[[str], Any] = float if kind == "float" else _whole if numbers else int
    found = _converted(reader, answer)
    if not answer.strip():
        yield "answer", f"no answer: {_NEVER}", Weight.NEVER_RIGHT
    elif found is None:
        yield "answer", f"{_short(answer)} is no {kind} (answer_type): {_NEVER}", Weight.NEVER_RIGHT
    elif kind == "float" and (more := _too_precise(answer, row.get("precision", ""))) is not None:
        yield "answer", more, Weight.NEVER_RIGHT
    elif kind == "integer" and found != float(answer):
        what = f"{_short(answer)} is no integer (answer_type): VLMEvalKit compares with {found}"
        yield "answer", what, Weight.SAID


def _math_choice(row: Mapping[str, str]) -> Iterator[Found]:
    choices = row["choices"]
    found = value(choices)
    if choices.strip() in NOTHING:
        yield "choices", "no choices: VLMEvalKit fails at it", Weight.FAULT
        return
    if not isinstance(found, list) or not found:
        fails = refusal(choices) not in (None, ValueError)
        what, weight = ("VLMEvalKit fails at it", Weight.FAULT) if fails else (_NEVER, Weight.NEVER_RIGHT)
        yield "choices", f"{_short(choices)} is no list of choices: {what}", weight
        return
    letters = [chr(65 + place) for place in range(len(found))]
    option = row["answer_option"]
    if option not in letters:
        said = f"{_short(option)} is none of {', '.join(letters)}" if option.strip() else "no answer"
        yield "answer_option", f"{said}: {_NEVER}", Weight.NEVER_RIGHT


def _too_precise(answer: str, precision: str) -> str | None:
    """Why an answer of as many decimals as the question asks for is not equal to the right one, or None."""
    asked, number = _converted(_whole, precision), float(answer)
    if math.isnan(number):
        return f"{_short(answer)} equals no number: {_NEVER}"
    if asked is None or not 0 <= asked <= MOST_DECIMALS or number == float(f"{number:.{asked}f}"):
        return None
    places = "decimal" if asked == 1 else "decimals"
    return f"{_short(answer)} is asked for with {asked} {places} (precision): no such answer is right"


def _whole(text: str) -> int:
    """A number as pandas has it in a column of numbers, cut to an integer. Raises ValueError or OverflowError."""
    return int(float(text))


def _converted(kind: Callable[[str], Any], text: str) -> Any:
    try:
        return kind(text)
    except (ValueError, OverflowError):
        return None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
