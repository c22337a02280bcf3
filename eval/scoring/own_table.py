"""Scores of a table of one's own whose kind VLMEvalKit scores only under its own datasets' names."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..judges.base import AnyJudge
from ..tasks.own_table import right_answers
from ..tasks.questions import ability_of
from .open_answers import GAVE_UP, Result


def short_answers(rows: Sequence[dict[str, Any]]) -> Result:
    """The share of answers equal to one of the right ones, both normalised as VLMEvalKit does for TextVQA.

    That is: lower case, without punctuation and articles, words of numbers as digits. (TextVQA itself wants ten
    people's answers and gives a third for each that agrees, vqa_eval.process_line.)
    """
    from vlmeval.dataset.utils.vqa_eval import process_answer

    scores = []
    for row in rows:
        given = process_answer(str(row["prediction"]))
        scores.append(float(any(process_answer(right) == given for right in right_answers(str(row["answer"])))))
    return _result(rows, scores, 0)


def graded_answers(rows: Sequence[dict[str, Any]], judge: AnyJudge) -> Result:
    """The mean of the judge's grades, 0 to 1, asked for with MM-Vet's prompt; one that cannot be read counts as 0.

    Raises JudgeAway when the judge does not answer.
    """
    from vlmeval.dataset.utils.mmvet import MMVet_auxeval

    with ThreadPoolExecutor(judge.workers) as pool:
        verdicts = list(pool.map(lambda row: MMVet_auxeval(judge, row), rows))
    grades = [float(verdict["score"]) for verdict in verdicts]
    failed = sum(
        GAVE_UP in verdict["log"] or math.isnan(grade) for verdict, grade in zip(verdicts, grades, strict=True)
    )
    return _result(rows, [0.0 if math.isnan(grade) else grade for grade in grades], failed)


def _result(rows: Sequence[dict[str, Any]], scores: Sequence[float], failures: int) -> Result:
    by_ability: dict[str, list[float]] = defaultdict(list)
    outcomes = []
    for row, score in zip(rows, scores, strict=True):
        outcomes.append({"unit": str(row["index"]), "score": score, "ability": ability_of(row)})
        by_ability[ability_of(row)].append(score)
    share = {name: 100 * sum(values) / len(values) for name, values in sorted(by_ability.items()) if name}
    entry = {
        "overall": 100 * sum(scores) / len(scores),
        "scale": 100.0,
        "abilities": share,
        "parse_failures": failures,
        "chance": None,
    }
    return entry, outcomes
