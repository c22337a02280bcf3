"""Scores of a table of one's own whose kind VLMEvalKit scores only under its own datasets' names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..judges.asking import GRADE_TOKENS, Asking
from ..tasks.own_table import right_answers
from ..tasks.questions import ability_of
from . import unread
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
    return _result(rows, scores, sum(unread.words(str(row["prediction"])) for row in rows))


def graded_answers(rows: Sequence[dict[str, Any]], verdicts: Asking) -> Result:
    """The mean of the judge's grades, 0 to 1, asked for as MM-Vet's; one that cannot be read counts as 0.

    Within `patches.judged_by`. Raises JudgeAway when the judge does not answer.
    """
    from vlmeval.dataset.utils import mmvet

    verdicts.max_tokens = GRADE_TOKENS
    with ThreadPoolExecutor(verdicts.judge.workers) as pool:
        given = list(pool.map(lambda row: mmvet.MMVet_auxeval(verdicts, row), rows))
    return _result(rows, [float(item["score"]) for item in given], sum(GAVE_UP in item["log"] for item in given))


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
