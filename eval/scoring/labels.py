"""Answers that are labels: the first of a set's labels in the text is the answer, by the authors' rule."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..tasks.registry import Benchmark
from .open_answers import Result

_NEXT = "### Response:"
_OFFERS = re.compile(r"Answer format: *(\S+)\s*$")


def first_label(text: str, labels: Sequence[str]) -> str:
    """The label that stands first in an answer, in small letters as it is written; "" where there is none.

    The labels are looked for as they are, also inside other words ("untrue", "answer12"). What a model says after
    another `### Response:` of its own is not read.
    Source: wutaiqiang/MoSLoRA, commonsense_evaluate.py (evaluate, extract_answer).
    """
    found = re.search("|".join(map(re.escape, labels)), text.split(_NEXT)[0])
    return found[0] if found else ""


def offered(question: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that a question offers in its last line, `Answer format: answer1/answer2`; all where it has none."""
    found = _OFFERS.search(question)
    return tuple(found[1].split("/")) if found else tuple(labels)


def score_labels(benchmark: Benchmark, rows: Sequence[Mapping[str, Any]]) -> Result:
    """The share of questions whose first label is the right one; an answer without a label is wrong.

    The entry counts answers without a label (`parse_failures`) and those with one that the question does not offer
    (`beyond_options`); `chance` is what drawing among a question's own labels would score.
    """
    outcomes: list[dict[str, Any]] = []
    chances: list[float] = []
    right, failures, beyond = 0, 0, 0
    for row in rows:
        said = first_label(str(row["prediction"]), benchmark.labels)
        options = offered(str(row["question"]), benchmark.labels)
        failures += not said
        beyond += bool(said) and said not in options
        chances.append(1 / len(options))
        right += said == row["answer"]
        outcomes.append({"unit": str(row["index"]), "score": float(said == row["answer"]), "ability": ""})
    entry = {
        "overall": 100 * right / len(outcomes),
        "scale": 100.0,
        "abilities": {},
        "parse_failures": failures,
        "beyond_options": beyond,
        "chance": {"overall": 100 * sum(chances) / len(chances)},
        "decoding": benchmark.decoding,
    }
    return entry, outcomes
