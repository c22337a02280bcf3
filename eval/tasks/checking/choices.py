"""The options of multiple choice: missing ones, gaps, and those that VLMEvalKit takes for nothing."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence

from ..registry import Benchmark
from ..tsv import NOTHING, Tsv
from .finding import Finding, Weight

UNREAD = "Z"
"""VLMEvalKit's letter for an answer that names no option."""

DROPPED = "an option None, NA or the like is a missing value to VLMEvalKit: it is not offered (--kit-fixes offers it)"


def written(row: Mapping[str, str]) -> dict[str, str]:
    """The options as they stand in the table, letter to text."""
    return {letter: row[letter] for letter in string.ascii_uppercase if row.get(letter, "").strip()}


def offered(row: Mapping[str, str], kit_fixes: bool = False) -> dict[str, str]:
    """The options that a model is offered and VLMEvalKit knows: without those that are missing values to pandas."""
    return {letter: text for letter, text in written(row).items() if kit_fixes or text not in NOTHING}


def check(benchmark: Benchmark, table: Tsv, called: Sequence[str], kit_fixes: bool) -> Iterator[Finding]:
    """Rows whose options, or whose answer among them, are not as they should be."""
    letters = [letter for letter in string.ascii_uppercase if letter in table.cells]
    answers = table.column("answer")
    answered = any(answer.strip() for answer in answers)
    for place, row in enumerate(table.rows("image")):
        there = written(row)
        last = max((letters.index(letter) for letter in there), default=-1)
        gaps = [letter for letter in letters[: last + 1] if letter not in there]
        for letter in gaps:
            yield Finding(place, called[place], letter, "the option is missing, and a later one is there")
        if not gaps and len(there) < 2:
            what = "no options" if not there else f"one option alone ({', '.join(there)})"
            yield Finding(place, called[place], "A" if not there else "B", what)
        known = offered(row, kit_fixes)
        for letter in there if len(there) >= 2 else ():
            if letter not in known:
                yield Finding(place, called[place], letter, DROPPED, Weight.SAID)
        if answered and (found := _answer(row["answer"], there, known)) is not None:
            yield Finding(place, called[place], "answer", *found)


def _answer(answer: str, there: Mapping[str, str], known: Mapping[str, str]) -> tuple[str, Weight] | None:
    """Why no answer to a question is right, or why every unread one would be; None where all is well."""
    if answer in known:
        return None
    if answer == UNREAD:
        return (
            f"{answer} is no option, and VLMEvalKit's sign for an answer it cannot read: those would count as right",
            Weight.FAULT,
        )
    if answer in there:
        return f"the right option {answer} is not offered: no answer is ever right", Weight.NEVER_RIGHT
    if not answer.strip():
        return "no answer: no answer is ever right", Weight.NEVER_RIGHT
    short = answer if len(answer) <= 40 else f"{answer[:37]}..."
    return f"{short!r} is none of {', '.join(known) or 'no options'}: no answer is ever right", Weight.NEVER_RIGHT
